#include "topology/read/places.h"
#include "topology/read/readers.h"
namespace reshard {
Result<ClusterSpec> read_nccl_xml(const std::string&, const std::string&, const NodeType*) {
  return invalid_argument("x");
}
Result<ClusterSpec> read_cluster(const std::string&) {
  return invalid_argument("x");
}
Result<std::vector<NamedPlace>> read_places(const std::string&) {
  return invalid_argument("x");
}
Status apply_places(const std::vector<NamedPlace>&, const std::string&, ClusterSpec*) {
  return invalid_argument("x");
}
}  // namespace reshard
