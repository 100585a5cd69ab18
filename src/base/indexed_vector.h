// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cassert>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

namespace reshard {

/// A number that counts one kind of thing. It reads as a plain integer, so it prints, compares and adds like one; but
/// it is only made on purpose, so that a rank is never taken for a domain, nor a loop variable for either.
template <typename Tag>
class Index {
 public:
  using Value = std::int32_t;

  constexpr Index() = default;
  template <std::integral Integer>
  explicit constexpr Index(Integer value) : value_(static_cast<Value>(value)) {
    assert(std::in_range<Value>(value));
  }

  constexpr operator Value() const { return value_; }  // NOLINT(google-explicit-constructor): reads as a number
  constexpr Value value() const { return value_; }     ///< where the type is deduced: in formats and templates
  constexpr std::size_t position() const { return static_cast<std::size_t>(value_); }
  constexpr bool valid() const { return value_ >= 0; }

  Index& operator++() {
    ++value_;
    return *this;
  }

  friend constexpr bool operator==(Index a, Index b) { return a.value_ == b.value_; }
  friend constexpr auto operator<=>(Index a, Index b) { return a.value_ <=> b.value_; }

 private:
  // No thing: what valid() tells from all others.
  Value value_ = -1;
};

/// Position of a process in the world of a transfer, counting from 0.
using RankId = Index<struct RankTag>;
/// Ranks that reach each other without the network.
using DomainId = Index<struct DomainTag>;
/// A host.
using NodeId = Index<struct NodeTag>;
/// What a rank reaches the network by.
using PortId = Index<struct PortTag>;
/// A port of every node that meets the same port of other nodes in one switch.
using RailId = Index<struct RailTag>;
/// A switch that ports hang on.
using LeafId = Index<struct LeafTag>;
/// Leaves that reach each other without the core of the fabric.
using PodId = Index<struct PodTag>;

/// All values of an Index from 0 on: `for (const RankId rank : indices<RankId>(num_ranks))`.
template <typename Id>
class IndexRange {
 public:
  class Iterator {
   public:
    explicit Iterator(Id id) : id_(id) {}
    Id operator*() const { return id_; }
    Iterator& operator++() {
      ++id_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return id_ != other.id_; }

   private:
    Id id_;
  };

  explicit IndexRange(Id end) : end_(end) {}
  Iterator begin() const { return Iterator(Id(0)); }
  Iterator end() const { return Iterator(end_); }

 private:
  Id end_;
};

template <typename Id, typename Integer>
IndexRange<Id> indices(Integer count) {
  return IndexRange<Id>(Id(count));
}

/// A vector with one value for each thing of a kind, reached by that kind's index and by nothing else.
template <typename Id, typename T>
class IndexedVector {
 public:
  using value_type = T;
  using Reference = typename std::vector<T>::reference;
  using ConstReference = typename std::vector<T>::const_reference;

  IndexedVector() = default;
  explicit IndexedVector(std::size_t size) : values_(size) {}
  IndexedVector(std::size_t size, const T& value) : values_(size, value) {}
  IndexedVector(std::initializer_list<T> values) : values_(values) {}
  explicit IndexedVector(std::vector<T> values) : values_(std::move(values)) {}

  Reference operator[](Id id) {
    assert(contains(id));
    return values_[id.position()];
  }
  ConstReference operator[](Id id) const {
    assert(contains(id));
    return values_[id.position()];
  }

  bool contains(Id id) const { return id.valid() && id.position() < values_.size(); }
  std::size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  Id end_id() const { return Id(values_.size()); }  ///< that of the next value appended
  IndexRange<Id> ids() const { return IndexRange<Id>(end_id()); }

  Id push_back(T value) {
    values_.push_back(std::move(value));
    return Id(values_.size() - 1);
  }
  T& emplace_back() { return values_.emplace_back(); }
  T& back() { return values_.back(); }
  const T& back() const { return values_.back(); }
  void reserve(std::size_t size) { values_.reserve(size); }
  void resize(std::size_t size) { values_.resize(size); }
  void assign(std::size_t size, const T& value) { values_.assign(size, value); }
  void clear() { values_.clear(); }

  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

  /// The values in order, for what takes a plain vector.
  const std::vector<T>& values() const { return values_; }

  bool operator==(const IndexedVector&) const = default;

 private:
  std::vector<T> values_;
};

/// For rooms that count with plain numbers, where at() of src/base/at.h serves the other containers.
template <typename Id, typename T, typename Number>
requires std::integral<Number> || std::same_as<Number, Id>
decltype(auto) at(IndexedVector<Id, T>& values, Number number) {
  return values[Id(number)];
}
template <typename Id, typename T, typename Number>
requires std::integral<Number> || std::same_as<Number, Id>
decltype(auto) at(const IndexedVector<Id, T>& values, Number number) {
  return values[Id(number)];
}

}  // namespace reshard

template <typename Tag>
struct std::hash<reshard::Index<Tag>> {
  std::size_t operator()(reshard::Index<Tag> index) const noexcept { return index.position(); }
};
