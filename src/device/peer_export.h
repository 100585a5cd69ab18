// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How a range of device memory can be exported, and what it takes to open it. Only for files of this room that are
// built with CUDA.
#pragma once

#include <cstddef>
#include <memory>

#include "src/base/status.h"
#include "src/device/descriptor_offers.h"
#include "src/device/peer_key.h"

namespace reshard {

/// Fills in kind, offset and pieces of the key of [ptr, ptr + size_bytes), which is memory of the current device; kNone
/// when nobody can map it. `offers` are started with the first descriptor.
Status describe_export(const void* ptr, std::size_t size_bytes, std::unique_ptr<DescriptorOffers>* offers,
                       PeerKey* key);

}  // namespace reshard
