// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <string>
#include <vector>

#include "perf/data/element_source.h"
#include "perf/data/safetensors_set.h"

namespace reshard::perf {

/// Values from the safetensors file or files at a path (SafetensorsSet). A stacked tensor "…experts.gate_proj.weight",
/// dimension 0 = expert, may lie in the file as one tensor or as one per expert, "…experts.7.gate_proj.weight".
class CheckpointSource final : public ElementSource {
 public:
  /// Throws Error listing every tensor that is missing or has another shape or dtype than the source layout.
  CheckpointSource(const std::string& path, const std::vector<TensorPair>& tensors);

  void read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
            std::byte* out) const override;

 private:
  /// A tensor's bytes: equal pieces, one behind the other in row-major order.
  struct Pieces {
    std::vector<const std::byte*> data;
    std::int64_t num_elements = 0;  ///< of each piece
  };
  Pieces find_pieces(const TensorPair& tensor) const;
  const std::byte* find_piece(const TensorPair& tensor, const std::string& name,
                              const std::vector<std::int64_t>& shape) const;

  SafetensorsSet files_;
  std::map<std::string, Pieces, std::less<>> pieces_;
};

}  // namespace reshard::perf
