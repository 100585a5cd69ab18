// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Layouts as bytes: how one process hands a layout to another without a comm, e.g. by a file or a message of the
// caller's own. The bytes given out belong to the layout, which keeps them.
#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/layout/serialize.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::guard;

extern "C" {

reshard_status_t reshard_layout_serialize(reshard_layout_t layout, const void** bytes, size_t* size_bytes) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_not_null(bytes, "bytes"));
    RESHARD_TRY(check_not_null(size_bytes, "size_bytes"));
    const std::vector<std::byte>& serialized = layout->serialized();
    *bytes = serialized.data();
    *size_bytes = serialized.size();
    return {};
  });
}

reshard_status_t reshard_layout_deserialize(const void* bytes, size_t size_bytes, reshard_layout_t* layout) {
  if (layout != nullptr) *layout = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(bytes, "bytes"));
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(ModelLayout read, deserialize({static_cast<const std::byte*>(bytes), size_bytes}));
    *layout = new reshard_layout(std::move(read));
    return {};
  });
}

}  // extern "C"
