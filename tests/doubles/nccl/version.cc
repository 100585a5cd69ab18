// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/world.h"

int nccl_double::default_version() {
  return NCCL_DOUBLE_DEFAULT_VERSION;
}
