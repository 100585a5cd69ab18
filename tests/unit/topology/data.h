// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

namespace reshard {

/// The folder of recorded machines.
inline const std::string kData = RESHARD_TEST_DATA "/topology/";

}  // namespace reshard
