// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/quantised.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "src/layout/scale_layout.h"

namespace reshard {
namespace {

std::string scale_name(ScaleKind kind, const std::string& name) {
  return name + (kind == ScaleKind::kBlock128 ? "_scale_inv" : "_scale");
}

/// Scale tensors of one layout, whose buffers stand beside those of the weights: what is fused there is fused here.
class ScaleAdder {
 public:
  ScaleAdder(ScaleKind kind, ModelLayout* layout) : kind_(kind), layout_(layout), placer_(layout) {}

  Status add(std::int64_t weight) {
    const Tensor of = at(layout_->tensors(), weight);
    RESHARD_TRY(std::vector<std::int64_t> shape, scale_shape(kind_, of.shape));
    RESHARD_TRY(const ScaleGrid grid, make_scale_grid(kind_, of.shape, shape));
    RESHARD_TRY(const std::int64_t scales,
                layout_->add_tensor({scale_name(kind_, of.name), scale_dtype(kind_), std::move(shape), of.group}));
    for (const Placement& placement : layout_->placements(weight)) {
      auto [buffer, is_new] = buffers_.try_emplace(placement.buffer, -1);
      if (!is_new) continue;
      const std::string name = scale_name(kind_, at(layout_->buffers(), placement.buffer).name);
      buffer->second = layout_->add_buffer(name, scale_dtype(kind_));
    }
    RESHARD_TRY(placer_.place_alike(weight, grid, scales, buffers_));
    return layout_->set_scales(weight, {kind_, scales});
  }

 private:
  ScaleKind kind_;
  ModelLayout* layout_;
  BesidePlacer placer_;
  std::map<std::int64_t, std::int64_t> buffers_;  // of scales, by those of weights
};

}  // namespace

Result<QuantSettings> read_quant_settings(const LayoutText& text) {
  QuantSettings settings;
  const std::string* dtype = text.find("dtype");
  const std::string* quant = text.find("quant");
  if (dtype != nullptr) {
    Result<DType> parsed = parse_dtype(*dtype);
    if (!parsed.ok()) return text.error("dtype: " + parsed.status().message());
    settings.dtype = *parsed;
  }
  if (quant == nullptr) {
    if (settings.dtype != DType::kF8E4M3) return settings;
    return text.error("dtype=f8_e4m3 needs quant, which says the kind of scales: block128, mxfp8 or channel");
  }
  Result<ScaleKind> kind = parse_scale_kind(*quant);
  if (!kind.ok()) return text.error("quant: " + kind.status().message());
  if (*kind == ScaleKind::kTensor) {
    return text.error(
        "quant=tensor: fused parameters have one scale or several; say by the API or the JSON form which");
  }
  if (settings.dtype.has_value() && *settings.dtype != DType::kF8E4M3) {
    return text.error(fmt::format("quant={} makes weights f8_e4m3, and dtype is {}; leave dtype out", *quant, *dtype));
  }
  settings.dtype.reset();  // what is not quantised keeps the config's
  settings.kind = *kind;
  return settings;
}

bool is_quantisable(const Model& model, const Param& param) {
  // Small ones, and those that are no matrices: short convolutions.
  constexpr std::array kKept = {"router",        "shared.weight", "indexer.k",     "indexer.weights",
                                "linear.conv",   "kda.conv_q",    "kda.conv_k",    "kda.conv_v",
                                "mtp.embedding", "mtp.output",    "mtp.projection"};
  return stack_kind(model, param) == Stack::Kind::kLayers && !stack_of(model, param).is_vision &&
         param.leaf == "weight" && param.dims.size() >= 2 &&
         std::find(kKept.begin(), kKept.end(), param.role) == kKept.end();
}

Status check_quantisable(const LayoutText& text, const QuantSettings& settings, const Model& model) {
  if (settings.kind == ScaleKind::kNone) return {};
  for (const Param& param : model.params) {
    if (!param.is_transposed || !is_quantisable(model, param)) continue;
    return {
        RESHARD_ERR_NOT_SUPPORTED,
        fmt::format("\"{}\": quant: {} is stored [in, out], and nothing here knows where its scales lie; leave quant "
                    "out, or say them by the JSON form",
                    text.text(), checkpoint_name(model, param))};
  }
  return {};
}

void set_dtypes(const QuantSettings& settings, Model* model) {
  for (Param& param : model->params) {
    // Those that are F32 in every model stay so.
    if (settings.dtype.has_value() && param.dtype == model->dtype) param.dtype = *settings.dtype;
    if (settings.kind != ScaleKind::kNone && is_quantisable(*model, param)) param.dtype = DType::kF8E4M3;
  }
  if (settings.dtype.has_value()) model->dtype = *settings.dtype;
}

Status add_scale_tensors(const LayoutText& text, const QuantSettings& settings, const std::vector<bool>& is_quantised,
                         ModelLayout* layout) {
  if (settings.kind == ScaleKind::kNone) return {};
  ScaleAdder adder(settings.kind, layout);
  for (std::size_t i = 0; i < is_quantised.size(); ++i) {
    if (!is_quantised[i]) continue;
    const auto weight = static_cast<std::int64_t>(i);
    RESHARD_TRY(adder.add(weight).with_context(
        fmt::format("\"{}\": quant: tensor \"{}\"", text.text(), at(layout->tensors(), weight).name)));
  }
  return {};
}

}  // namespace reshard
