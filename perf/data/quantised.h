// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "perf/engine/job.h"

namespace reshard::perf {

/// What tensors of 8-bit floats and their scales hold: a source, or a destination after a run, by definition of the
/// kinds of scales and with conversions of the tools' own. perf/README.md says the values.
class QuantisedValues {
 public:
  /// As ElementSource::read. @pre tensor.quant
  void read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype, std::byte* out);

 private:
  const std::vector<float>& scales_of(const Quantised& quant);

  std::map<const Quantised*, std::vector<float>> scales_;  // row-major; made when first asked for
};

}  // namespace reshard::perf
