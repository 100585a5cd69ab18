// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which tensors each bundle consists of. Written out, that is a list of all layers' tensors for each bundle: of a model
// with a thousand tensors and thousands of bundles most of the plan. But layers repeat, so almost all bundles are one
// of few patterns, and a pattern is told by little: by how many elements the bundle has of each class of tensors. So
// runs of atoms are counted and filled bundle by bundle, and each bundle then looks for its pattern by these numbers.
#include "src/plan/compose.h"

#include <algorithm>
#include <map>

namespace reshard {
namespace {

class Composer {
 public:
  explicit Composer(Plan* plan) : plan_(plan), tensors_of_class_(plan->classes.size()) {}

  void run() {
    for (std::size_t t = 0; t < plan_->tensors.size(); ++t) {
      at(tensors_of_class_, plan_->tensors[t].atom_class).push_back(static_cast<std::int64_t>(t));
    }
    place_runs();
    fill_runs();
    for (std::size_t b = 0; b < plan_->bundles.size(); ++b) {
      Bundle& bundle = plan_->bundles[b];
      bundle.pattern = pattern_of(bundle.first_run, num_runs_[b]);
      bundle.size_bytes = at(plan_->patterns, bundle.pattern).size_bytes;
    }
  }

 private:
  /// Calls visit(class, first, end) for the atoms of each class that lie in one bundle, classes ascending.
  template <typename Visit>
  void for_each_run(const Visit& visit) const {
    for (std::size_t c = 0; c < plan_->classes.size(); ++c) {
      const std::vector<Atom>& atoms = plan_->classes[c].atoms;
      for (std::size_t first = 0; first < atoms.size();) {
        std::size_t end = first;
        while (end < atoms.size() && atoms[end].bundle == atoms[first].bundle) ++end;
        visit(static_cast<std::int64_t>(c), first, end);
        first = end;
      }
    }
  }

  const std::vector<Atom>& atoms_of(std::int64_t atom_class) const { return at(plan_->classes, atom_class).atoms; }

  /// Counts the runs of each bundle, so that they can stand one bundle after the other without a list for each. Classes
  /// are gone through in ascending order both here and in fill_runs(): run i of a bundle is that of its i-th class, as
  /// StrandPattern::Entry::run says.
  void place_runs() {
    num_runs_.resize(plan_->bundles.size());
    for_each_run([&](std::int64_t c, std::size_t first, std::size_t) { ++at(num_runs_, atoms_of(c)[first].bundle); });
    std::int64_t first_run = 0;
    for (std::size_t b = 0; b < plan_->bundles.size(); ++b) {
      plan_->bundles[b].first_run = first_run;
      first_run += num_runs_[b];
    }
    plan_->runs.resize(static_cast<std::size_t>(first_run));
    contents_.resize(static_cast<std::size_t>(first_run));
  }

  void fill_runs() {
    std::vector<std::int32_t> num_filled(plan_->bundles.size());
    for_each_run([&](std::int64_t c, std::size_t first, std::size_t end) {
      const std::vector<Atom>& atoms = atoms_of(c);
      const std::int32_t bundle = atoms[first].bundle;
      const std::int64_t place = at(plan_->bundles, bundle).first_run + at(num_filled, bundle)++;
      at(plan_->runs, place) = {static_cast<std::int32_t>(first), static_cast<std::int32_t>(end - first)};
      std::int64_t elements = 0;
      for (std::size_t i = first; i < end; ++i) elements += atoms[i].box.num_elements();
      at(contents_, place) = {c, elements};
    });
  }

  /// Two bundles have the same strands, but for which atoms, exactly when the same classes of tensors have equally many
  /// elements in both: the tensors of a class are the same for all, and offsets are sums of elements.
  std::int32_t pattern_of(std::int64_t first_run, std::int32_t num_runs) {
    const auto first = contents_.begin() + first_run;
    key_.assign(first, first + num_runs);
    const auto known = known_.find(key_);
    if (known != known_.end()) return known->second;
    const auto id = static_cast<std::int32_t>(plan_->patterns.size());
    plan_->patterns.push_back(make_pattern(key_));
    known_.emplace(key_, id);
    return id;
  }

  /// (class of tensors, elements of each of them) in a bundle.
  using Content = std::pair<std::int64_t, std::int64_t>;

  StrandPattern make_pattern(const std::vector<Content>& contents) const {
    StrandPattern pattern;
    std::size_t num_entries = 0;
    for (const auto& [c, elements] : contents) num_entries += at(tensors_of_class_, c).size();
    pattern.entries.reserve(num_entries);
    for (const auto& [c, elements] : contents) {
      for (const std::int64_t tensor : at(tensors_of_class_, c)) {
        pattern.entries.push_back({tensor, 0, pattern.num_runs});
      }
      ++pattern.num_runs;
    }
    // By tensor, which is the order of arrival: a receiver can complete the first group before the last is on its way.
    std::sort(pattern.entries.begin(), pattern.entries.end(),
              [](const StrandPattern::Entry& a, const StrandPattern::Entry& b) { return a.tensor < b.tensor; });
    for (StrandPattern::Entry& entry : pattern.entries) {
      entry.begin_bytes = pattern.size_bytes;
      pattern.size_bytes += at(contents, entry.run).second * at(plan_->tensors, entry.tensor).wire_bytes;
    }
    return pattern;
  }

  Plan* plan_;
  std::vector<std::vector<std::int64_t>> tensors_of_class_;
  std::vector<std::int32_t> num_runs_;  // by bundle
  std::vector<Content> contents_;       // by run
  std::vector<Content> key_;            // of the bundle at hand
  std::map<std::vector<Content>, std::int32_t> known_;
};

}  // namespace

void compose_bundles(Plan* plan) {
  Composer(plan).run();
}

}  // namespace reshard
