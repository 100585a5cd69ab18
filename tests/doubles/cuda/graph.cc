// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/graph.h"

#include <map>
#include <utility>

namespace cuda_double {
namespace {

/// What cudaGraphInstantiate gives: a graph of its own, and where its last launch ends.
struct Exec {
  std::shared_ptr<const Graph> graph;
  Mark last;
};

std::map<cudaGraph_t, std::shared_ptr<Graph>>& graphs() {
  static auto& list = *new std::map<cudaGraph_t, std::shared_ptr<Graph>>;
  return list;
}
std::map<cudaGraphExec_t, Exec>& execs() {
  static auto& list = *new std::map<cudaGraphExec_t, Exec>;
  return list;
}

/// A handle is an address that nothing else has.
template <typename Handle>
Handle new_handle() {
  return reinterpret_cast<Handle>(new char);
}

/// The streams of one launch, that nobody has a handle of: a node that alone follows another goes on in its stream.
class Expansion {
 public:
  Expansion(const Graph& graph, Mark begin) : graph_(graph), begin_(std::move(begin)), ends_(graph.nodes.size()) {
    is_followed_.resize(graph.nodes.size());
  }

  /// Queues all; where what nothing waits for ends.
  std::vector<Mark> run() {
    for (std::size_t index = 0; index < graph_.nodes.size(); ++index) add(index);
    std::vector<Mark> leaves;
    for (std::size_t index = 0; index < graph_.nodes.size(); ++index) {
      if (!is_followed_[index]) leaves.push_back(ends_[index]);
    }
    return leaves;
  }

 private:
  void add(std::size_t index) {
    const Graph::Node& node = graph_.nodes[index];
    Work work = node.work;
    if (work.make) work.run = work.make();
    work.after = {begin_};
    std::shared_ptr<StreamState> stream;
    for (const int before : node.after) {
      const auto number = static_cast<std::size_t>(before);
      work.after.push_back(ends_[number]);
      const bool is_next = !is_followed_[number] && ends_[number].stream->device == node.device;
      if (stream == nullptr && is_next) stream = ends_[number].stream;
      is_followed_[number] = true;
    }
    if (stream == nullptr) stream = add_inner_stream(node.device);
    push(stream, std::move(work));
    ends_[index] = stream->mark(stream);
  }

  const Graph& graph_;
  const Mark begin_;
  std::vector<Mark> ends_;
  std::vector<bool> is_followed_;
};

}  // namespace

cudaGraph_t add_graph(std::shared_ptr<Graph> graph) {
  const auto handle = new_handle<cudaGraph_t>();
  graphs()[handle] = std::move(graph);
  return handle;
}

Graph* graph_of(cudaGraph_t handle) {
  const auto found = graphs().find(handle);
  return found == graphs().end() ? nullptr : found->second.get();
}

bool remove_graph(cudaGraph_t handle) {
  return graphs().erase(handle) != 0 && (delete reinterpret_cast<char*>(handle), true);
}

bool remove_graph_exec(cudaGraphExec_t handle) {
  return execs().erase(handle) != 0 && (delete reinterpret_cast<char*>(handle), true);
}

std::int64_t num_graphs() {
  return static_cast<std::int64_t>(graphs().size() + execs().size());
}

int instantiate_graph(cudaGraph_t graph, cudaGraphExec_t* out) {
  const auto found = graphs().find(graph);
  if (found == graphs().end()) return cudaErrorInvalidValue;
  *out = new_handle<cudaGraphExec_t>();
  execs()[*out] = {found->second, {}};  // nothing changes a graph that was captured
  return cudaSuccess;
}

int launch_graph(cudaGraphExec_t handle, const std::shared_ptr<StreamState>& stream) {
  const auto found = execs().find(handle);
  if (found == execs().end()) return cudaErrorInvalidValue;
  if (stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;  // graphs in graphs are not played
  Exec& exec = found->second;
  // One launch of it after the other.
  enqueue(stream, {"a graph", [] { return true; }, {exec.last}});
  const std::shared_ptr<const Graph> graph = exec.graph;
  std::vector<Mark> leaves = Expansion(*graph, stream->mark(stream)).run();
  enqueue(stream, {"the end of a graph", [] { return true; }, std::move(leaves)});
  exec.last = stream->mark(stream);
  return cudaSuccess;
}

}  // namespace cuda_double
