// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace reshard::perf {

/// "64M" -> 67108864. Digits and at most one of K, M, G (powers of 1024, either case). Throws Error for anything else.
std::int64_t parse_size_bytes(std::string_view text);

/// A byte count for a person: "512 B", "1.50 MiB".
std::string format_bytes(std::int64_t size_bytes);
/// The same of a number in JSON.
std::string bytes_text(const nlohmann::json& size_bytes);

/// A time for a person, of four digits: "1.399 s", "15.64 ms", "734.6 us".
std::string format_seconds(double seconds);

/// The tensor's name with every part that is a number replaced: "model.layers.3.mlp" -> "model.layers.*.mlp".
std::string name_pattern(std::string_view name);

/// The whole file. Throws Error naming the path.
std::string read_text_file(const std::string& path);

/// "24-31" or "7": the ranks. Throws Error for anything else.
std::vector<std::int32_t> parse_rank_range(const std::string& text);

}  // namespace reshard::perf
