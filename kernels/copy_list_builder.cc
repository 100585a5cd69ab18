// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A run is kept as its first copy, the number of copies, and the step between them, until one comes that does not fit.
// Only then it is known whether it is long enough to be folded, so that nothing is entered before.
#include "kernels/copy_list_builder.h"

#include <algorithm>
#include <cassert>

namespace reshard {
namespace {

constexpr std::int64_t kShortestRun = 3;

bool have_same_scales(const CopyScales& a, const CopyScales& b, int num_dims) {
  if (a.base == nullptr || b.base == nullptr) return a.base == b.base;
  return a.dtype == b.dtype && std::equal(a.dims, a.dims + num_dims, b.dims);
}

bool have_same_form(const CopyOp& a, const CopyOp& b) {
  const int n = a.num_dims;
  return n == b.num_dims && a.src_dtype == b.src_dtype && a.dst_dtype == b.dst_dtype &&
         (a.src == nullptr) == (b.src == nullptr) && std::equal(a.shape, a.shape + n, b.shape) &&
         std::equal(a.src_strides_bytes, a.src_strides_bytes + n, b.src_strides_bytes) &&
         std::equal(a.dst_strides_bytes, a.dst_strides_bytes + n, b.dst_strides_bytes) &&
         have_same_scales(a.scales, b.scales, n);
}

void move(std::intptr_t src_step, std::intptr_t dst_step, std::intptr_t scale_step, CopyOp* op) {
  if (op->src != nullptr) op->src = static_cast<const std::byte*>(op->src) + src_step;
  op->dst = static_cast<std::byte*>(op->dst) + dst_step;
  if (op->scales.base != nullptr) op->scales.base = static_cast<const std::byte*>(op->scales.base) + scale_step;
}

}  // namespace

// A destination that is written again is no run: it would alias itself.
bool CopyListBuilder::can_follow(const CopyOp& op) const {
  return first_.num_dims < CopyOp::kMaxDims && have_same_form(first_, op) && op.dst != last_dst_;
}

// Takes `op` into what is not in the list yet, if it can be part of a run with it.
bool CopyListBuilder::extend_run(const CopyOp& op) {
  if (count_ == 0 || !can_follow(op)) return false;
  const std::intptr_t src_step = bytes_between(last_src_, op.src);
  const std::intptr_t dst_step = bytes_between(last_dst_, op.dst);
  const std::intptr_t scale_step = bytes_between(last_scales_, op.scales.base);
  // The second copy sets the step, whatever it is; from the third on it must be the same.
  const bool is_same_step = src_step == src_step_ && dst_step == dst_step_ && scale_step == scale_step_;
  const bool continues = count_ == 1 || is_same_step;
  if (!continues && count_ >= kShortestRun) return false;
  if (continues) {
    ++count_;
  } else {  // a pair, of which the second may begin a run with this one
    append(first_);
    move(src_step_, dst_step_, scale_step_, &first_);
  }
  src_step_ = src_step;
  dst_step_ = dst_step;
  scale_step_ = scale_step;
  return true;
}

void CopyListBuilder::add(const CopyOp& op) {
  assert(is_possible(op));
  if (!extend_run(op)) {
    close_run();
    first_ = op;
    count_ = 1;
  }
  last_src_ = op.src;
  last_dst_ = op.dst;
  last_scales_ = op.scales.base;
}

void CopyListBuilder::close_run() {
  if (count_ >= kShortestRun) {
    const int d = first_.num_dims++;
    first_.shape[d] = count_;
    first_.src_strides_bytes[d] = src_step_;
    first_.dst_strides_bytes[d] = dst_step_;
    first_.scales.dims[d] = {1, 0, scale_step_};
    count_ = 1;
  }
  for (; count_ > 0; --count_) {
    append(first_);
    if (count_ > 1) move(src_step_, dst_step_, scale_step_, &first_);
  }
}

void CopyListBuilder::append(const CopyOp& op) {
  const std::int64_t num_bytes = num_bytes_of(op);
  if (num_bytes == 0) return;
  copies_.push_back(table_->prepare(op));
  num_bytes_ += num_bytes;
}

CopyList CopyListBuilder::take(std::uint64_t kin) {
  close_run();
  if (copies_.empty()) return {};
  const CopyTable::Place place = table_->enter(copies_, num_bytes_, kin);
  copies_.clear();
  num_bytes_ = 0;
  return {table_, place};
}

}  // namespace reshard
