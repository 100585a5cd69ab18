// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>

namespace cuda_double {

/// The function of the driver that makes, maps or exports memory page by page; null for any other name.
void* find_page_function(const std::string& name);

/// Handles that are held.
std::int64_t num_page_handles();

}  // namespace cuda_double
