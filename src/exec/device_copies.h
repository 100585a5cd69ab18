// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tile_table.h"
#include "src/device/memory.h"
#include "src/device/stream.h"
#include "src/exec/copier.h"

namespace reshard {

/// The copies of one binding on a device: batches are collected while the binding is made, their table is uploaded
/// once, and from then on each batch is one launch, whatever the number of pieces in it. Both who asks for the end of
/// each launch (CudaCopier) and who enqueues all of a run at once (StreamDriver) launch them from here. Movable.
class DeviceCopies {
 public:
  /// Errors as src/device/device.h says.
  static Result<DeviceCopies> create(std::int32_t device);

  std::int32_t device() const { return device_; }

  /// A batch of all copies of the list, whose addresses are final. Nothing in it: CopyBatch::kNone.
  CopyBatch add(const CopyList& copies);
  /// The same of scales that are computed; launched before copies that use them.
  CopyBatch add(const ScaleList& scales);
  /// The same of several lists: begin, append, ..., end. @pre no two copies of a batch write the same bytes, and none
  /// reads what another writes.
  void begin_batch() { table_.begin_batch(); }
  void append(const CopyList& copies) { table_.append(copies); }
  CopyBatch end_batch() { return keep(table_.end_batch()); }

  /// After the last batch: puts the table on the device; done when it returns. RESHARD_ERR_OUT_OF_MEMORY.
  Status upload(const Stream& stream);

  /// Queues a batch. @pre it is not kNone, and upload() was ok
  Status launch(CopyBatch batch, const Stream& stream) const;

 private:
  DeviceCopies(std::int32_t device, int num_blocks) : device_(device), num_blocks_(num_blocks) {}
  CopyBatch keep(const TileRange& batch);

  std::int32_t device_;
  int num_blocks_;   // of a launch
  TileTable table_;  // until it is uploaded
  std::vector<TileRange> batches_;
  PinnedMemory image_;  // of the table, while it is uploaded
  DeviceMemory uploaded_;
  DeviceTable on_device_;
};

}  // namespace reshard
