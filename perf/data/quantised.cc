// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/quantised.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "perf/data/convert.h"
#include "perf/data/formula.h"

namespace reshard::perf {
namespace {

std::uint64_t random_of(const std::string& name, std::int64_t index) {
  return splitmix64(fnv1a64(name) + static_cast<std::uint64_t>(index));
}

/// -127 to 127, which BF16 and F32 hold exactly.
float number_of(const std::string& name, std::int64_t index) {
  return static_cast<float>(random_of(name, index) % 255) - 127.0f;
}

/// A power of two, 2^-2 to 2^5, as both dtypes of scales hold it.
float given_scale(const std::string& name, std::int64_t index) {
  return std::ldexp(1.0f, static_cast<int>(random_of(name, index) % 8) - 2);
}

/// Any code that is no NaN.
std::uint8_t code_of(const std::string& name, std::int64_t index) {
  const auto code = static_cast<std::uint8_t>(random_of(name, index) % 254);
  return static_cast<std::uint8_t>(code < 0x7f ? code : code + 1);
}

/// Index of an element's scale, row-major.
std::int64_t scale_index(const Quantised& quant, std::int64_t element) {
  std::int64_t index = 0;
  std::int64_t factor = 1;
  for (std::size_t d = quant.shape.size(); d-- > 0;) {
    const std::int64_t i = element % quant.shape[d];
    element /= quant.shape[d];
    if (d >= quant.scale_shape.size()) continue;
    index += i / quant.blocks[d] * factor;
    factor *= quant.scale_shape[d];
  }
  return index;
}

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

/// The scale of a block whose largest magnitude is `most`.
float computed_scale(reshard_scale_kind_t kind, float most) {
  if (kind == RESHARD_SCALES_BLOCK128) return std::max(most, 1e-4f) / 448.0f;
  if (most == 0) return std::ldexp(1.0f, -127);
  int exponent = -127;  // the smallest power of two by which 448 reaches `most`
  while (std::ldexp(448.0f, exponent) < most) ++exponent;
  return std::ldexp(1.0f, exponent);
}

void store_scale(reshard_dtype_t dtype, float scale, std::byte* out) {
  if (dtype == RESHARD_F32) {
    std::memcpy(out, &scale, sizeof scale);
    return;
  }
  const auto code = static_cast<std::uint8_t>(std::ilogb(scale) + 127);
  std::memcpy(out, &code, sizeof code);
}

}  // namespace

const std::vector<float>& QuantisedValues::scales_of(const Quantised& quant) {
  std::vector<float>& scales = scales_[&quant];
  if (!scales.empty()) return scales;
  scales.resize(static_cast<std::size_t>(num_elements(quant.scale_shape)));
  if (quant.has_given_scales) {
    for (std::size_t i = 0; i < scales.size(); ++i) {
      scales[i] = given_scale(quant.scales, static_cast<std::int64_t>(i));
    }
    return scales;
  }
  for (std::int64_t i = 0; i < num_elements(quant.shape); ++i) {
    float& most = scales[static_cast<std::size_t>(scale_index(quant, i))];
    most = std::max(most, std::fabs(number_of(quant.name, i)));
  }
  for (float& scale : scales) scale = computed_scale(quant.kind, scale);
  return scales;
}

void QuantisedValues::read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
                           std::byte* out) {
  const Quantised& quant = *tensor.quant;
  const std::size_t size = reshard_dtype_size_bytes(dtype);
  const bool is_held = dtype == (quant.is_quantising ? quant.wide_dtype : RESHARD_F8_E4M3);
  const std::vector<float>* scales = is_held && !tensor.is_scales ? nullptr : &scales_of(quant);
  for (std::int64_t i = first; i < first + count; ++i, out += size) {
    if (tensor.is_scales) {
      store_scale(dtype, (*scales)[static_cast<std::size_t>(i)], out);
      continue;
    }
    const float scale = scales == nullptr ? 0 : (*scales)[static_cast<std::size_t>(scale_index(quant, i))];
    if (dtype != RESHARD_F8_E4M3) {
      const float value = is_held ? number_of(quant.name, i) : float_from_e4m3(code_of(quant.name, i)) * scale;
      store_number(dtype, value, out);
    } else {
      // Quantised by the reciprocal, as servers do.
      const std::uint8_t code =
          is_held ? code_of(quant.name, i) : e4m3_from_float(number_of(quant.name, i) * (1.0f / scale));
      std::memcpy(out, &code, sizeof code);
    }
  }
}

}  // namespace reshard::perf
