// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One element of a copy, as the definition says: slow and obvious, and with CUDA's own conversions in place of ours, so
// that it shares nothing with the kernels that it judges. For the device and, on the double of the runtime, the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>
#include <cstring>

#include "kernels/canonical_op.h"

#ifdef __CUDACC__
#define RESHARD_ON_BOTH __host__ __device__
#else
#define RESHARD_ON_BOTH
#endif

namespace reshard::testing {

RESHARD_ON_BOTH inline float float_at(const unsigned char* from, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0;
    memcpy(&value, from, sizeof(value));
    return value;
  }
  if (dtype == DType::kF16) {
    __half value;
    memcpy(&value, from, sizeof(value));
    return __half2float(value);
  }
  __nv_bfloat16 value;
  memcpy(&value, from, sizeof(value));
  return __bfloat162float(value);
}

/// A quiet NaN of the sign: CUDA's conversions drop it.
RESHARD_ON_BOTH inline void write_nan(unsigned char* to, DType dtype, bool is_negative) {
  if (dtype == DType::kF32) {
    const std::uint32_t bits = is_negative ? 0xffc00000U : 0x7fc00000U;
    memcpy(to, &bits, sizeof(bits));
    return;
  }
  const int quiet = dtype == DType::kF16 ? 0x7e00 : 0x7fc0;
  const auto bits = static_cast<std::uint16_t>(is_negative ? quiet | 0x8000 : quiet);
  memcpy(to, &bits, sizeof(bits));
}

RESHARD_ON_BOTH inline void write_float(unsigned char* to, DType dtype, float value) {
  if (dtype == DType::kF32) {
    memcpy(to, &value, sizeof(value));
  } else if (dtype == DType::kF16) {
    const __half rounded = __float2half_rn(value);
    memcpy(to, &rounded, sizeof(rounded));
  } else {
    const __nv_bfloat16 rounded = __float2bfloat16_rn(value);
    memcpy(to, &rounded, sizeof(rounded));
  }
}

/// The sign is the highest bit of the last byte of every one of these types.
RESHARD_ON_BOTH inline void convert_element(unsigned char* to, DType to_dtype, const unsigned char* from,
                                            DType from_dtype) {
  const float value = float_at(from, from_dtype);
  if (value != value) {
    write_nan(to, to_dtype, (from[from_dtype == DType::kF32 ? 3 : 1] & 0x80) != 0);
  } else {
    write_float(to, to_dtype, value);
  }
}

/// A scale as a float. CUDA's own conversions of F8_E8M0 are those of the header.
RESHARD_ON_BOTH inline float scale_at(const unsigned char* from, DType dtype) {
  if (dtype == DType::kF32) return float_at(from, dtype);
  __nv_fp8_e8m0 scale;
  memcpy(&scale, from, sizeof(scale));
  return static_cast<float>(scale);
}

/// Quantises or dequantises. On the device the products are those that the compiler makes: there is nothing to fuse.
RESHARD_ON_BOTH inline void scale_element(unsigned char* to, DType to_dtype, const unsigned char* from,
                                          DType from_dtype, float scale) {
  if (to_dtype == DType::kF8E4M3) {
    const float value = float_at(from, from_dtype) * (1.0f / scale);
    const __nv_fp8_storage_t code = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
    *to = value != value ? 0x7f : code;
    return;
  }
  __nv_fp8_e4m3 code;
  memcpy(&code, from, sizeof(code));
  const float value = static_cast<float>(code) * scale;
  if (value != value) {
    write_nan(to, to_dtype, false);
  } else {
    write_float(to, to_dtype, value);
  }
}

/// Element `index` of the op, counted row by row.
RESHARD_ON_BOTH inline void copy_element(const CopyOp& op, int element_bytes, std::int64_t index) {
  const auto* from = static_cast<const unsigned char*>(op.src);
  auto* to = static_cast<unsigned char*>(op.dst);
  const auto* scale = static_cast<const unsigned char*>(op.scales.base);
  for (int d = op.num_dims - 1; d >= 0; --d) {
    const ScaleDim& dim = op.scales.dims[d];
    if (scale != nullptr) scale += (dim.offset + index % op.shape[d]) / dim.block * dim.stride_bytes;
    if (from != nullptr) from += index % op.shape[d] * op.src_strides_bytes[d];
    to += index % op.shape[d] * op.dst_strides_bytes[d];
    index /= op.shape[d];
  }
  if (scale != nullptr) {
    scale_element(to, op.dst_dtype, from, op.src_dtype, scale_at(scale, op.scales.dtype));
    return;
  }
  if (from != nullptr && op.src_dtype != op.dst_dtype) {
    convert_element(to, op.dst_dtype, from, op.src_dtype);
    return;
  }
  for (int b = 0; b < element_bytes; ++b) to[b] = from == nullptr ? 0 : from[b];
}

}  // namespace reshard::testing
