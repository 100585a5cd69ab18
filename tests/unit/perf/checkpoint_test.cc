// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "perf/data/convert.h"
#include "perf/engine/error.h"
#include "tests/unit/temporary_file.h"

namespace reshard::perf {
namespace {

/// Writes tensors of floats 0, 1, 2, ... that count on from one tensor to the next.
void write_checkpoint(const std::string& path, const std::vector<FileTensor>& tensors) {
  SafetensorsWriter writer(path, tensors);
  float next = 0;
  for (const FileTensor& tensor : tensors) {
    std::vector<float> values(static_cast<std::size_t>(tensor.size_bytes()) / sizeof(float));
    std::iota(values.begin(), values.end(), next);
    next += static_cast<float>(values.size());
    writer.write(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float));
  }
  writer.finish();
}

TensorPair make_tensor(const std::string& name, const std::vector<std::int64_t>& shape) {
  return {name, shape, 0, 0, RESHARD_F32, RESHARD_BF16};
}

std::vector<float> read(const CheckpointSource& source, const TensorPair& tensor, std::int64_t first,
                        std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  source.read(tensor, first, count, RESHARD_F32, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

std::string problem_of(const std::string& path, const std::vector<TensorPair>& tensors) {
  try {
    const CheckpointSource source(path, tensors);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Checkpoint, ReadsARangeOfATensorInEitherDtype) {
  const TemporaryFile file;
  write_checkpoint(file.path(), {{"w", RESHARD_F32, {3, 4}}});
  const TensorPair tensor = make_tensor("w", {3, 4});
  const CheckpointSource source(file.path(), {tensor});
  EXPECT_EQ(read(source, tensor, 5, 3), (std::vector<float>{5, 6, 7}));
  std::uint16_t narrow[2] = {};
  source.read(tensor, 10, 2, RESHARD_BF16, reinterpret_cast<std::byte*>(narrow));
  EXPECT_EQ(float_from_bf16(narrow[0]), 10);
  EXPECT_EQ(float_from_bf16(narrow[1]), 11);
}

TEST(Checkpoint, StacksTensorsOfSingleExperts) {
  const TemporaryFile file;
  write_checkpoint(file.path(), {{"l.0.mlp.experts.0.up.weight", RESHARD_F32, {2, 2}},
                                 {"l.0.mlp.experts.1.up.weight", RESHARD_F32, {2, 2}},
                                 {"l.0.mlp.experts.2.up.weight", RESHARD_F32, {2, 2}}});
  const TensorPair tensor = make_tensor("l.0.mlp.experts.up.weight", {3, 2, 2});
  const CheckpointSource source(file.path(), {tensor});
  EXPECT_EQ(read(source, tensor, 0, 12), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(read(source, tensor, 3, 6), (std::vector<float>{3, 4, 5, 6, 7, 8}));
}

TEST(Checkpoint, TakesAStackedTensorAsItIs) {
  const TemporaryFile file;
  write_checkpoint(file.path(), {{"mlp.experts.up.weight", RESHARD_F32, {2, 3}}});
  const TensorPair tensor = make_tensor("mlp.experts.up.weight", {2, 3});
  EXPECT_EQ(read(CheckpointSource(file.path(), {tensor}), tensor, 2, 2), (std::vector<float>{2, 3}));
}

TEST(Checkpoint, ListsEveryTensorThatDoesNotFit) {
  const TemporaryFile file;
  write_checkpoint(file.path(), {{"good", RESHARD_F32, {2}}, {"shape", RESHARD_F32, {2}}, {"dtype", RESHARD_F32, {2}}});
  TensorPair wrong_dtype = make_tensor("dtype", {2});
  wrong_dtype.src_dtype = RESHARD_BF16;
  const std::string problem = problem_of(
      file.path(), {make_tensor("good", {2}), make_tensor("gone", {2}), make_tensor("shape", {1, 2}), wrong_dtype});
  EXPECT_NE(problem.find("gone is missing"), std::string::npos) << problem;
  EXPECT_NE(problem.find("shape is F32 [2], but the source layout has F32 [1, 2]"), std::string::npos) << problem;
  EXPECT_NE(problem.find("dtype is F32 [2], but the source layout has BF16 [2]"), std::string::npos) << problem;
  EXPECT_EQ(problem.find("good"), std::string::npos) << problem;
}

TEST(Checkpoint, NamesTheExpertThatIsMissing) {
  const TemporaryFile file;
  write_checkpoint(file.path(), {{"experts.0.w", RESHARD_F32, {2}}, {"m.experts.0.w", RESHARD_F32, {2}}});
  EXPECT_NE(problem_of(file.path(), {make_tensor("m.experts.w", {2, 2})}).find("m.experts.1.w is missing"),
            std::string::npos);
}

/// A folder with two files of one float tensor each, "a" and "b", and what else a test writes into it.
class Folder {
 public:
  Folder() {
    std::filesystem::create_directory(path());
    write_checkpoint(path() + "/m-00001-of-00002.safetensors", {{"a", RESHARD_F32, {2}}});
    write_checkpoint(path() + "/m-00002-of-00002.safetensors", {{"b", RESHARD_F32, {3}}});
  }
  ~Folder() { std::filesystem::remove_all(path()); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return name_.path(); }
  std::string index() const { return path() + "/m.safetensors.index.json"; }

 private:
  TemporaryFile name_;
};

const std::vector<TensorPair> kBoth = {make_tensor("a", {2}), make_tensor("b", {3})};

TEST(Checkpoint, OfSeveralFilesIsAFolderOrAnIndex) {
  const Folder folder;
  EXPECT_EQ(problem_of(folder.path(), kBoth), "") << "a folder without an index";
  write_text_file(folder.index(), R"({"metadata": {}, "weight_map": {
    "a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}})");
  for (const std::string& path : {folder.path(), folder.index()}) {
    const CheckpointSource source(path, kBoth);
    EXPECT_EQ(read(source, kBoth[0], 0, 2), (std::vector<float>{0, 1})) << path;
    EXPECT_EQ(read(source, kBoth[1], 1, 2), (std::vector<float>{1, 2})) << path;
  }
}

TEST(Checkpoint, AnIndexThatLiesIsRefused) {
  const Folder folder;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"weight_map": {"a": "m-00002-of-00002.safetensors"}})", "tensor a is not in m-00002-of-00002.safetensors"},
      {R"({"weight_map": {"a": "gone.safetensors"}})", "gone.safetensors"},
      {R"({"weight_map": {"a": "../m-00001-of-00002.safetensors"}})", "is no name of a file beside it"},
      {R"({"weight_map": {"a": 1}})", "the file of tensor a is no text"},
      {R"({"weight_map": )", "no object \"weight_map\""},
      {R"([])", "no object \"weight_map\""},
  };
  for (const auto& [text, part] : cases) {
    write_text_file(folder.index(), text);
    const std::string problem = problem_of(folder.index(), kBoth);
    EXPECT_NE(problem.find(part), std::string::npos) << text << ": " << problem;
  }
}

TEST(Checkpoint, ATensorInTwoFilesIsRefused) {
  const Folder folder;
  write_checkpoint(folder.path() + "/n.safetensors", {{"a", RESHARD_F32, {2}}});
  EXPECT_NE(problem_of(folder.path(), kBoth).find("tensor a lies in another file"), std::string::npos);
}

TEST(Checkpoint, AFolderWithoutOneIsRefused) {
  const Folder folder;
  std::filesystem::create_directory(folder.path() + "/empty");
  const std::string problem = problem_of(folder.path() + "/empty", kBoth);
  EXPECT_NE(problem.find("neither safetensors files nor an index"), std::string::npos) << problem;
}

}  // namespace
}  // namespace reshard::perf
