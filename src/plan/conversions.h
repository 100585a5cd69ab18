// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where tensors of 8-bit floats with scales become others or come of others: at the source, on the way to the wire, or
// at the destination, from where they landed. It is decided before anything else of a plan; from then on the tensors
// that it takes are tensors of the plan's layouts like all others (README.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/layout/scales.h"

namespace reshard {

struct Plan;

/// What a plan does to one tensor whose elements are 8-bit floats with scales on one side only.
struct Conversion {
  enum class Place : std::int8_t { kSource, kDestination };

  bool is_quantising = true;  ///< false: dequantising
  bool has_given_scales = false;
  ScaleKind kind = ScaleKind::kNone;
  Place place = Place::kSource;
  std::string why;               ///< there and not elsewhere, for people
  ScaleGrid grid;                ///< of the elements
  std::int64_t src = -1;         ///< the elements, in Plan::src
  std::int64_t dst = -1;         ///< the elements as the caller wants them, in Plan::dst
  std::int64_t src_scales = -1;  ///< in Plan::src; of a conversion at the source computed in every run unless given
  // Of a conversion at the destination, in Plan::dst:
  std::int64_t landing = -1;     ///< where the elements land, in the dtype of the wire; matched in place of `dst`
  std::int64_t dst_scales = -1;  ///< by which they are converted: computed there, the caller's own, or landed
  std::int64_t scales_out = -1;  ///< the caller's scale tensor that gets the computed ones; -1: none

  bool is_at_source() const { return place == Place::kSource; }
  /// Whether a run computes scales, from `src` at the source or from `landing`.
  bool computes() const { return is_quantising && !has_given_scales; }
};

/// Sets Plan::conversions, and gives Plan::src and Plan::dst what these need beyond the caller's layouts, which become
/// given_src and given_dst. A plan without such tensors keeps the caller's layouts.
/// Errors: RESHARD_ERR_LAYOUT_MISMATCH for scales that cannot be computed where any rank needs them (tensor, dimensions
/// and borders), scales that must be given and are not, or not where they are needed, and dtypes that do not convert.
Status choose_conversions(Plan* plan);

}  // namespace reshard
