// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The general JSON form: any tensors on any meshes, for what no model text describes. Functions that read a value say
// only what is wrong with it; each level above puts its key or index in front, so that an error reads as a path
// ("spec: tensors[3]: tensor "a": dst: mesh: ranks: entry 2: ..."). That is why every read goes through member() and
// read_list(), and why checks of more than one value stand where those values meet.
#include "src/model/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "src/model/axis_placement.h"
#include "src/model/json_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Keys = std::vector<std::string>;

Status wrong_type(const Json& value, const char* wanted) {
  return invalid_argument(fmt::format("is {}; give {}", describe(value), wanted));
}

/// Refuses anything but an object that has all `required` keys and no others than these and the `optional` ones.
Status check_keys(const Json& value, const Keys& required, const Keys& optional = {}) {
  Keys known = required;
  known.insert(known.end(), optional.begin(), optional.end());
  const std::string names = fmt::format("{}", fmt::join(known, ", "));
  if (!value.is_object()) return wrong_type(value, fmt::format("an object with the keys {}", names).c_str());
  for (const auto& item : value.items()) {
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
      return invalid_argument(fmt::format("unknown key {}; the known ones are {}", describe(item.key()), names));
    }
  }
  for (const std::string& key : required) {
    if (!value.contains(key)) return invalid_argument(fmt::format("the key \"{}\" is missing", key));
  }
  return {};
}

Result<std::int64_t> read_int(const Json& value) {
  if (!value.is_number_integer()) return wrong_type(value, "an integer");
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
    return wrong_type(value, "an integer of at most 63 bits");
  }
  return value.get<std::int64_t>();
}

Result<std::int64_t> read_count(const Json& value) {
  RESHARD_TRY(const std::int64_t count, read_int(value));
  if (count < 0) return wrong_type(value, "an integer of 0 or more");
  return count;
}

Result<std::string> read_string(const Json& value) {
  if (!value.is_string()) return wrong_type(value, "a string");
  return value.get<std::string>();
}

/// Names leave the library as C strings, in messages and as keys of dumps.
Result<std::string> read_name(const Json& value) {
  RESHARD_TRY(std::string name, read_string(value));
  if (name.empty()) return invalid_argument("is empty");
  if (name.find('\0') != std::string::npos) return invalid_argument("contains a NUL character");
  return name;
}

/// Every entry of a list through `read`; the context of an error is its index.
template <typename T, typename Read>
Result<std::vector<T>> read_list(const Json& value, const Read& read) {
  if (!value.is_array()) return wrong_type(value, "a list");
  std::vector<T> list;
  list.reserve(value.size());
  for (const Json& entry : value) {
    Result<T> item = read(entry);
    if (!item.ok()) return item.take_status().with_context(fmt::format("entry {}", list.size()));
    list.push_back(item.take());
  }
  return list;
}

/// The member `key` of an object through `read`; the context of an error is the key.
template <typename T, typename Read>
Result<T> member(const Json& object, const char* key, const Read& read) {
  Result<T> result = read(object.at(key));
  if (!result.ok()) return result.take_status().with_context(key);
  return result;
}

Result<std::vector<std::int64_t>> read_counts(const Json& value) {
  return read_list<std::int64_t>(value, read_count);
}

Result<DType> read_dtype(const Json& value) {
  RESHARD_TRY(const std::string text, read_string(value));
  return parse_dtype(text);
}

Result<MeshAxis> read_axis(const Json& value) {
  if (!value.is_array() || value.size() != 2) return wrong_type(value, "[name, size]");
  RESHARD_TRY(std::string name, read_string(value[0]));
  RESHARD_TRY(const std::int64_t size, read_int(value[1]));
  return MeshAxis{std::move(name), size};
}

/// An entry of a table: an index or a half-open [start, end].
Result<IndexRun> read_run(const Json& value) {
  if (!value.is_array()) {
    RESHARD_TRY(const std::int64_t index, read_count(value));
    if (index == std::numeric_limits<std::int64_t>::max()) return wrong_type(value, "an index of the dimension");
    return IndexRun{index, index + 1};
  }
  RESHARD_TRY(const std::vector<std::int64_t> ends, read_counts(value));
  if (ends.size() != 2) return wrong_type(value, "an index or [start, end]");
  if (ends[0] > ends[1]) {
    return invalid_argument(fmt::format("[{}, {}] ends before it starts; ranges are half-open", ends[0], ends[1]));
  }
  return IndexRun{ends[0], ends[1]};
}

Result<Rule> read_rule(const Json& value) {
  if (value == "chunk") return Rule::kChunk;
  if (value == "balanced") return Rule::kBalanced;
  if (value == "even") return Rule::kEven;
  return wrong_type(value, "\"chunk\", \"balanced\" or \"even\"");
}

Result<bool> read_nest(const Json& value) {
  if (value == "outer_first") return false;
  if (value == "inner_first") return true;
  return wrong_type(value, "\"outer_first\" or \"inner_first\"");
}

Result<AxisRule> read_placement(const Json& value) {
  AxisRule rule;
  if (value == "replicate") return rule;
  if (!value.is_object()) return wrong_type(value, "\"replicate\" or {\"shard\": DIM, ...}");
  RESHARD_TRY(check_keys(value, {"shard"}, {"rule", "cuts", "block", "table"}));
  if (value.size() > 2) return invalid_argument("has more than one of rule, cuts, block and table; give at most one");
  RESHARD_TRY(rule.dim, member<std::int64_t>(value, "shard", read_count));
  if (value.contains("rule")) {
    RESHARD_TRY(rule.split.rule, member<Rule>(value, "rule", read_rule));
  } else if (value.contains("cuts")) {
    rule.split.rule = Rule::kCuts;
    RESHARD_TRY(rule.split.cuts, member<std::vector<std::int64_t>>(value, "cuts", read_counts));
  } else if (value.contains("block")) {
    rule.split.rule = Rule::kCyclic;
    RESHARD_TRY(rule.split.block, member<std::int64_t>(value, "block", read_count));
  } else if (value.contains("table")) {
    const auto read_row = [](const Json& row) -> Result<IndexList> { return read_list<IndexRun>(row, read_run); };
    const auto read_table = [&](const Json& table) { return read_list<IndexList>(table, read_row); };
    rule.split.rule = Rule::kTable;
    RESHARD_TRY(rule.split.table, member<std::vector<IndexList>>(value, "table", read_table));
  }
  return rule;
}

/// Which tensor has the scales of a side's elements, by name: it may stand further on.
struct NamedScales {
  ScaleKind kind = ScaleKind::kNone;
  std::string tensor;
  bool operator==(const NamedScales&) const = default;
};

Result<NamedScales> read_scales(const Json& value) {
  RESHARD_TRY(check_keys(value, {"kind", "tensor"}));
  const auto read_kind = [](const Json& kind) -> Result<ScaleKind> {
    RESHARD_TRY(const std::string text, read_string(kind));
    return parse_scale_kind(text);
  };
  NamedScales scales;
  RESHARD_TRY(scales.kind, member<ScaleKind>(value, "kind", read_kind));
  RESHARD_TRY(scales.tensor, member<std::string>(value, "tensor", read_name));
  return scales;
}

/// Reads tensors into the two layouts. Equal meshes are built once and shared.
class SpecReader {
 public:
  explicit SpecReader(std::int32_t num_ranks)
      : src_{ModelLayout(num_ranks), {}, {}}, dst_{ModelLayout(num_ranks), {}, {}} {}

  Status read_tensor(const Json& value);
  Result<SpecLayouts> take();

 private:
  /// One placement of a tensor as a side says it.
  struct SidePlacement {
    DType dtype = DType::kBF16;
    AxisPlacement axes;
    std::optional<std::string> buffer;
    std::int64_t offset_bytes = 0;
    std::optional<NamedScales> scales;
  };

  /// One of the two layouts, and its shared buffers by their names.
  struct Side {
    ModelLayout layout;
    std::map<std::string, std::int64_t> buffers;
    std::map<std::int64_t, NamedScales> scales;  // by tensor
  };

  Status read_side(const Json& value, Tensor tensor, Side* side);
  Result<SidePlacement> read_side_placement(const Json& value);
  static Status place(const Tensor& tensor, std::int64_t index, const SidePlacement& given, Side* side);
  static Status check_buffer_names(const Side& side);
  static Status set_scales(Side* side);
  Result<MeshPtr> read_mesh(const Json& value);
  Result<std::int32_t> read_rank(const Json& value) const;

  Side src_;
  Side dst_;
  std::map<std::pair<std::vector<std::pair<std::string, std::int64_t>>, std::vector<std::int32_t>>, MeshPtr> meshes_;
};

Result<std::int32_t> SpecReader::read_rank(const Json& value) const {
  RESHARD_TRY(const std::int64_t rank, read_int(value));
  if (rank < 0 || rank >= src_.layout.num_ranks()) {
    return invalid_argument(
        fmt::format("rank {} is outside the world of {} ranks (\"ranks\")", rank, src_.layout.num_ranks()));
  }
  return static_cast<std::int32_t>(rank);
}

Result<MeshPtr> SpecReader::read_mesh(const Json& value) {
  RESHARD_TRY(check_keys(value, {"axes", "ranks"}));
  const auto read_axes = [](const Json& list) { return read_list<MeshAxis>(list, read_axis); };
  const auto read_ranks = [this](const Json& list) {
    return read_list<std::int32_t>(list, [this](const Json& rank) { return read_rank(rank); });
  };
  RESHARD_TRY(std::vector<MeshAxis> axes, member<std::vector<MeshAxis>>(value, "axes", read_axes));
  RESHARD_TRY(std::vector<std::int32_t> ranks, member<std::vector<std::int32_t>>(value, "ranks", read_ranks));
  // A mesh of one rank is written [["x", 1]]: without an axis there would be no name to speak of it by.
  if (axes.empty()) return invalid_argument("axes: is empty; give at least one, e.g. [[\"x\", 1]]");
  std::set<std::string> names;
  std::vector<std::pair<std::string, std::int64_t>> key;
  for (const MeshAxis& axis : axes) {
    if (!names.insert(axis.name).second) {
      return invalid_argument(fmt::format("axes: two axes have the name {}", describe(axis.name)));
    }
    key.emplace_back(axis.name, axis.size);
  }
  // Shared, for a spec may write the same thousand ranks at each of its tensors.
  MeshPtr& mesh = meshes_[{std::move(key), ranks}];
  if (!mesh) {
    RESHARD_TRY(mesh, Mesh::create(std::move(axes), std::move(ranks)));
  }
  return mesh;
}

Result<SpecReader::SidePlacement> SpecReader::read_side_placement(const Json& value) {
  RESHARD_TRY(
      check_keys(value, {"dtype", "mesh", "placements"}, {"nest", "order", "pad_to", "buffer", "offset", "scales"}));
  SidePlacement side;
  AxisPlacement& axes = side.axes;
  RESHARD_TRY(side.dtype, member<DType>(value, "dtype", read_dtype));
  RESHARD_TRY(axes.mesh, member<MeshPtr>(value, "mesh", [this](const Json& mesh) { return read_mesh(mesh); }));
  const auto read_axes = [](const Json& list) { return read_list<AxisRule>(list, read_placement); };
  RESHARD_TRY(axes.axes, member<std::vector<AxisRule>>(value, "placements", read_axes));
  if (value.contains("nest")) {
    RESHARD_TRY(axes.inner_first, member<bool>(value, "nest", read_nest));
  }
  if (value.contains("order")) {
    RESHARD_TRY(axes.order, member<std::vector<std::int64_t>>(value, "order", read_counts));
  }
  if (value.contains("pad_to")) {
    RESHARD_TRY(axes.pad_to, member<std::vector<std::int64_t>>(value, "pad_to", read_counts));
  }
  if (value.contains("buffer")) {
    RESHARD_TRY(side.buffer, member<std::string>(value, "buffer", read_name));
  }
  if (value.contains("offset")) {
    if (!side.buffer)
      return invalid_argument("offset: there is no \"buffer\" for it; without one the tensor has its own");
    RESHARD_TRY(side.offset_bytes, member<std::int64_t>(value, "offset", read_count));
  }
  if (value.contains("scales")) {
    RESHARD_TRY(side.scales, member<NamedScales>(value, "scales", read_scales));
  }
  return side;
}

Status SpecReader::place(const Tensor& tensor, std::int64_t index, const SidePlacement& given, Side* side) {
  RESHARD_TRY(Placement placement, make_placement(tensor, given.axes));
  if (given.buffer) {
    const auto [entry, is_new] = side->buffers.try_emplace(*given.buffer, -1);
    // A shared buffer has no dtype, for its tensors may differ: offsets in it are bytes.
    if (is_new) entry->second = side->layout.add_offset_buffer(*given.buffer);
    placement.buffer = entry->second;
    placement.offset_bytes = given.offset_bytes;
  } else {
    placement.buffer = side->layout.add_buffer(tensor.name, tensor.dtype);
  }
  return side->layout.place(index, std::move(placement));
}

/// A side is one placement or a list of them.
Status SpecReader::read_side(const Json& value, Tensor tensor, Side* side) {
  std::vector<SidePlacement> given;
  if (value.is_array() && !value.empty()) {
    const auto read = [this](const Json& entry) { return read_side_placement(entry); };
    RESHARD_TRY(given, read_list<SidePlacement>(value, read));
  } else {
    RESHARD_TRY(SidePlacement only, read_side_placement(value));
    given.push_back(std::move(only));
  }
  tensor.dtype = given.front().dtype;
  for (std::size_t i = 1; i < given.size(); ++i) {
    if (given[i].dtype != tensor.dtype) {
      return invalid_argument(fmt::format("entry {}: dtype: is {}, and {} in entry 0; a tensor has one on a side", i,
                                          name(given[i].dtype), name(tensor.dtype)));
    }
    if (given[i].scales != given.front().scales) {
      return invalid_argument(
          fmt::format("entry {}: scales: are others than in entry 0; a tensor has one kind of them on a side", i));
    }
  }
  // The tensor first: shapes that it refuses never reach the placement.
  RESHARD_TRY(const std::int64_t index, side->layout.add_tensor(tensor));
  for (const SidePlacement& placement : given) RESHARD_TRY(place(tensor, index, placement, side));
  if (given.front().scales.has_value()) side->scales.emplace(index, *given.front().scales);
  return {};
}

/// A shared buffer with the name of a tensor that has a buffer of its own beside it: the reader of the spec would take
/// them for one.
Status SpecReader::check_buffer_names(const Side& side) {
  for (const auto& [name, buffer] : side.buffers) {
    const std::int64_t tensor = side.layout.find_tensor(name);
    if (tensor < 0) continue;
    for (const Placement& placement : side.layout.placements(tensor)) {
      if (at(side.layout.buffers(), placement.buffer).by_offset) continue;
      return invalid_argument(
          fmt::format("buffer {} is shared, and tensor {} has a buffer of its own with this name; "
                      "give the tensor a \"buffer\", too, or choose another name",
                      describe(name), describe(name)));
    }
  }
  return {};
}

/// Once all tensors are there.
Status SpecReader::set_scales(Side* side) {
  for (const auto& [tensor, named] : side->scales) {
    const std::int64_t scales = side->layout.find_tensor(named.tensor);
    const std::string context = fmt::format("tensor {}: scales", describe(at(side->layout.tensors(), tensor).name));
    if (scales < 0) {
      return invalid_argument(fmt::format("{}: tensor: there is no {} on this side", context, describe(named.tensor)));
    }
    RESHARD_TRY(side->layout.set_scales(tensor, {named.kind, scales}));
  }
  return {};
}

Result<SpecLayouts> SpecReader::take() {
  RESHARD_TRY(check_buffer_names(src_).with_context("src"));
  RESHARD_TRY(check_buffer_names(dst_).with_context("dst"));
  RESHARD_TRY(set_scales(&src_).with_context("src"));
  RESHARD_TRY(set_scales(&dst_).with_context("dst"));
  return SpecLayouts{std::move(src_.layout), std::move(dst_.layout)};
}

Status SpecReader::read_tensor(const Json& value) {
  RESHARD_TRY(check_keys(value, {"name", "shape"}, {"src", "dst", "group"}));
  Tensor tensor;
  RESHARD_TRY(tensor.name, member<std::string>(value, "name", read_name));
  const std::string context = fmt::format("tensor {}", describe(tensor.name));
  const auto read_rest = [&]() -> Status {
    RESHARD_TRY(tensor.shape, member<std::vector<std::int64_t>>(value, "shape", read_counts));
    if (value.contains("group")) {
      RESHARD_TRY(tensor.group, member<std::int64_t>(value, "group", read_int));
    }
    // One side is enough: scales that a run computes are at the destination alone.
    if (!value.contains("src") && !value.contains("dst")) {
      return invalid_argument("the keys \"src\" and \"dst\" are missing; give at least one");
    }
    if (value.contains("src")) RESHARD_TRY(read_side(value.at("src"), tensor, &src_).with_context("src"));
    if (value.contains("dst")) RESHARD_TRY(read_side(value.at("dst"), tensor, &dst_).with_context("dst"));
    return {};
  };
  return read_rest().with_context(context);
}

Result<SpecLayouts> read_spec(const Json& json) {
  RESHARD_TRY(check_keys(json, {"version", "ranks", "tensors"}));
  RESHARD_TRY(const std::int64_t version, member<std::int64_t>(json, "version", read_int));
  if (version != 1) return invalid_argument(fmt::format("version: is {}; this library reads 1", version));
  RESHARD_TRY(const std::int64_t num_ranks, member<std::int64_t>(json, "ranks", read_int));
  RESHARD_TRY(check_num_ranks(num_ranks).with_context("ranks"));
  const Json& tensors = json.at("tensors");
  if (!tensors.is_array()) return wrong_type(tensors, "a list").with_context("tensors");
  SpecReader reader(static_cast<std::int32_t>(num_ranks));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    RESHARD_TRY(reader.read_tensor(tensors[i]).with_context(fmt::format("tensors[{}]", i)));
  }
  return reader.take();
}

}  // namespace

Result<SpecLayouts> parse_spec(const std::string& json) {
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) return parsed.take_status().with_context("spec");
  Result<SpecLayouts> layouts = read_spec(*parsed);
  if (!layouts.ok()) return layouts.take_status().with_context("spec");
  return layouts;
}

}  // namespace reshard
