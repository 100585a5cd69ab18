// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Only compiled: a user's function that hands errors up without exceptions, and every kind of Result made in full.
#include <reshard/reshard.hpp>

#ifndef __cpp_lib_expected
template class reshard::Result<int>;
template class reshard::Result<std::string>;
template class reshard::Result<reshard::Plan>;
template class reshard::Result<std::vector<reshard::Comm>>;
#endif

/// One transfer of one rank, from a spec.
reshard::Result<void> run_once(const char* spec, void* from, void* into, std::size_t size_bytes);
reshard::Result<void> run_once(const char* spec, void* from, void* into, std::size_t size_bytes) {
  using std::chrono_literals::operator""s;
  const auto layouts = reshard::Layout::from_spec(spec);
  if (!layouts) return reshard::Failure(layouts.error());
  const auto plan = reshard::Plan::create(layouts->src, layouts->dst, {.open_groups = 2});
  if (!plan) return reshard::Failure(plan.error());
  const auto comm = reshard::Comm::from_environment({.timeout = 5s});
  if (!comm) return reshard::Failure(comm.error());
  auto binding = reshard::Binding::create(
      *plan, *comm,
      {.src = {{.ptr = from, .size_bytes = size_bytes}}, .dst = {{.ptr = into, .size_bytes = size_bytes}}});
  if (!binding) return reshard::Failure(binding.error());
  if (auto started = binding->start(); !started) return started;
  return binding->finish(10s);
}
