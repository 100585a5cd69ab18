// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

#include "src/base/status.h"

namespace reshard {

/// The bytes of a file. Errors: RESHARD_ERR_IO, or RESHARD_ERR_INVALID_ARGUMENT above 64 MiB.
Result<std::string> read_file(const std::string& path);

}  // namespace reshard
