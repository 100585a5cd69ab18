// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Numbers from people and from files, exact. Speeds become 64-bit integers without a detour over floating point, which
// would round 0.1 differently from what the file says and, on another machine, from what a peer has read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/status.h"

namespace reshard {

/// An integer of [min, max]. Errors name `what` and the text.
Result<std::int64_t> parse_integer(std::string_view text, std::int64_t min, std::int64_t max, const std::string& what);

/// A decimal such as "0.5", "2" or "3.35e12", times `scale`, rounded down: exact, without floating point.
/// Errors: anything else, a negative number, more than 10^15.
Result<std::int64_t> parse_decimal(std::string_view text, std::int64_t scale, const std::string& what);

/// A speed in bytes per second: "400gbit" and "1mbit" in bits, "50GB" and "1.5MB" in bytes; without a unit it is in
/// bits where `plain_is_bits`, else in bytes. Errors: anything else, naming the units; less than 1000 bytes per second,
/// or more than 10^15 bits.
Result<std::int64_t> parse_bytes_per_s(std::string_view text, bool plain_is_bits, const std::string& what);

}  // namespace reshard
