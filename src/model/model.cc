// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "src/model/families.h"
#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"
#include "src/model/lora.h"
#include "src/model/mtp.h"
#include "src/model/name_filter.h"
#include "src/model/quantised.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

struct Kind {
  std::string_view kind;
  Result<std::int32_t> (*num_ranks)(const LayoutText&);
  Status (*place)(const LayoutText&, LayoutBuilder*);
  bool is_server = false;   ///< makes no parameters of what Param::is_on_servers denies
  bool has_copies = false;  ///< of Param::is_copy
};

constexpr std::array kKinds = {
    Kind{"fsdp", fsdp_num_ranks, place_fsdp},
    Kind{"megatron", megatron_num_ranks, place_megatron},
    Kind{"vllm", vllm_num_ranks, place_vllm, true},
    Kind{"sglang", sglang_num_ranks, place_sglang, true},
    Kind{"checkpoint", checkpoint_num_ranks, place_checkpoint, false, true},
};

/// The kind of a parsed text, whose kind is a known one.
const Kind& kind_of(const LayoutText& text) {
  std::size_t index = 0;
  while (kKinds[index].kind != text.kind()) ++index;
  return kKinds[index];
}

/// The ranks of the world that the layout's ranks are.
Result<std::vector<std::int32_t>> ranks_of(const LayoutText& text, std::int32_t needed,
                                           const ModelLayoutOptions& options) {
  if (options.ranks.empty()) {
    if (options.first_rank < 0 || options.first_rank > std::numeric_limits<std::int32_t>::max() - needed) {
      return text.error(fmt::format("first rank {} leaves no room for {} ranks", options.first_rank, needed));
    }
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(needed));
    std::iota(ranks.begin(), ranks.end(), options.first_rank);
    return ranks;
  }
  if (options.first_rank != 0) {
    return text.error(fmt::format("first rank {} and a list of ranks exclude each other", options.first_rank));
  }
  if (options.ranks.size() != static_cast<std::size_t>(needed)) {
    return text.error(fmt::format("needs {} ranks, the list has {}", needed, options.ranks.size()));
  }
  std::vector<std::int32_t> sorted = options.ranks;
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() < 0) return text.error(fmt::format("rank {} in the list; ranks count from 0", sorted.front()));
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) return text.error(fmt::format("rank {} is in the list twice", *twice));
  return options.ranks;
}

/// The size of the world, in which all these ranks must lie.
Result<std::int32_t> world_size(const LayoutText& text, const std::vector<std::int32_t>& ranks,
                                std::int32_t num_ranks) {
  const auto [least, greatest] = std::minmax_element(ranks.begin(), ranks.end());
  if (num_ranks < 0) return text.error(fmt::format("the world has {} ranks", num_ranks));
  if (num_ranks != 0 && *greatest >= num_ranks) {
    return text.error(fmt::format("needs ranks {} to {}, but the world has {}", *least, *greatest, num_ranks));
  }
  if (*greatest == std::numeric_limits<std::int32_t>::max()) {
    return text.error(fmt::format("rank {} leaves no room for a world around it", *greatest));
  }
  return num_ranks != 0 ? num_ranks : *greatest + 1;
}

/// What vLLM makes of parameters: other types whatever its dtype is (after the text's own), rows taken for others.
void set_served_forms(Model* model) {
  for (Param& param : model->params) {
    if (param.served_type == ServedType::kF32) param.dtype = DType::kF32;
    if (param.served_type == ServedType::kModel) param.dtype = model->dtype;
    if (param.served_pieces.has_value()) param.pieces = *param.served_pieces;
  }
}

}  // namespace

Result<std::int32_t> layout_text_num_ranks(const std::string& text) {
  RESHARD_TRY(const LayoutText parsed, LayoutText::parse(text));
  return kind_of(parsed).num_ranks(parsed);
}

Result<ModelLayout> make_model_layout(const std::string& config_json, const std::string& layout_text,
                                      const ModelLayoutOptions& options) {
  RESHARD_TRY(const LayoutText text, LayoutText::parse(layout_text));
  RESHARD_TRY(const std::int64_t num_mtp_layers, read_num_mtp_layers(text));
  RESHARD_TRY(Model model, read_model(config_json, {options.num_layers, options.dtype, num_mtp_layers}));
  return make_model_layout(std::move(model), layout_text, options);
}

Result<ModelLayout> make_model_layout(Model model, const std::string& layout_text, const ModelLayoutOptions& options) {
  RESHARD_TRY(const LayoutText text, LayoutText::parse(layout_text));
  const Kind& kind = kind_of(text);
  RESHARD_TRY(const std::int32_t needed, kind.num_ranks(text));
  RESHARD_TRY(std::vector<std::int32_t> ranks, ranks_of(text, needed, options));
  RESHARD_TRY(const std::int32_t world, world_size(text, ranks, options.num_ranks));
  RESHARD_TRY(check_num_ranks(world));
  RESHARD_TRY(const QuantSettings quant, read_quant_settings(text));
  if (options.dtype.has_value() && quant.dtype.has_value() && *options.dtype != *quant.dtype) {
    return text.error(
        fmt::format("dtype is {}, and {} beside the text; give one of them", name(*quant.dtype), name(*options.dtype)));
  }
  RESHARD_TRY(check_mtp_layers(text, model));
  RESHARD_TRY(take_adapters(text, &model));
  RESHARD_TRY(check_quantisable(text, quant, model));
  set_dtypes(quant, &model);
  if (text.kind() == "vllm") set_served_forms(&model);
  RESHARD_TRY(std::vector<std::size_t> chosen, select_by_name(model, options.include, options.exclude));
  // What a server makes no parameter of is not in its layout, so that a plan names it and refuses, unless it is told to
  // skip what only one side has: nothing that was trained is dropped in silence.
  if (kind.is_server) std::erase_if(chosen, [&](std::size_t index) { return !model.params[index].is_on_servers; });
  if (!kind.has_copies) std::erase_if(chosen, [&](std::size_t index) { return model.params[index].is_copy; });
  std::vector<bool> is_quantised;
  for (const std::size_t index : chosen) is_quantised.push_back(is_quantisable(model, model.params[index]));
  RESHARD_TRY(LayoutBuilder builder,
              LayoutBuilder::create(std::move(model), std::move(chosen), std::move(ranks), world));
  RESHARD_TRY(kind.place(text, &builder));
  ModelLayout layout = std::move(builder).take();
  RESHARD_TRY(add_scale_tensors(text, quant, is_quantised, &layout));
  return layout;
}

}  // namespace reshard
