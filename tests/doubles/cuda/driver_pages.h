// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

namespace cuda_double {

/// The function of the driver that makes, maps or exports memory page by page; null for any other name.
void* find_page_function(const std::string& name);

}  // namespace cuda_double
