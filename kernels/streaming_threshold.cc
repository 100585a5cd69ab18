// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <unistd.h>

#include <algorithm>

#include "kernels/copy_list.h"

namespace reshard {

std::int64_t streaming_threshold_bytes() {
  return 4 << 20;
}

}  // namespace reshard
