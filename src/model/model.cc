// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/model.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "src/model/config.h"
#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

struct Scheme {
  std::string_view kind;
  Result<std::int32_t> (*num_ranks)(const LayoutText&);
  Status (*place)(const LayoutText&, LayoutBuilder*);
};

constexpr std::array kSchemes = {
    Scheme{"fsdp", fsdp_num_ranks, place_fsdp},
    Scheme{"megatron", megatron_num_ranks, place_megatron},
    Scheme{"vllm", vllm_num_ranks, place_vllm},
    Scheme{"checkpoint", checkpoint_num_ranks, place_checkpoint},
};

/// The scheme of a parsed text, whose kind is a known one.
const Scheme& scheme_of(const LayoutText& text) {
  std::size_t index = 0;
  while (kSchemes[index].kind != text.kind()) ++index;
  return kSchemes[index];
}

/// The size of the world when ranks [first_rank, first_rank + needed) must lie in it.
Result<std::int32_t> world_size(const LayoutText& text, std::int32_t needed, std::int32_t first_rank,
                                std::int32_t num_ranks) {
  const std::int64_t end = std::int64_t{first_rank} + needed;
  if (first_rank < 0 || end > std::numeric_limits<std::int32_t>::max()) {
    return text.error(fmt::format("first rank {} leaves no room for {} ranks", first_rank, needed));
  }
  if (num_ranks != 0 && num_ranks < end) {
    return text.error(fmt::format("needs ranks {} to {}, but the world has {}", first_rank, end - 1, num_ranks));
  }
  return num_ranks != 0 ? num_ranks : static_cast<std::int32_t>(end);
}

}  // namespace

Result<std::int32_t> layout_text_num_ranks(const std::string& text) {
  RESHARD_TRY(const LayoutText parsed, LayoutText::parse(text));
  return scheme_of(parsed).num_ranks(parsed);
}

Result<ModelLayout> make_model_layout(const std::string& config_json, const std::string& layout_text,
                                      std::int64_t num_layers, std::int32_t first_rank, std::int32_t num_ranks) {
  RESHARD_TRY(const LayoutText text, LayoutText::parse(layout_text));
  const Scheme& scheme = scheme_of(text);
  RESHARD_TRY(const std::int32_t needed, scheme.num_ranks(text));
  RESHARD_TRY(const std::int32_t world, world_size(text, needed, first_rank, num_ranks));
  RESHARD_TRY(check_num_ranks(world));
  RESHARD_TRY(ModelConfig config, parse_model_config(config_json, num_layers));
  RESHARD_TRY(LayoutBuilder builder, LayoutBuilder::create(std::move(config), first_rank, world));
  RESHARD_TRY(scheme.place(text, &builder));
  return std::move(builder).take();
}

}  // namespace reshard
