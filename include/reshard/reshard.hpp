// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_RESHARD_HPP
#define RESHARD_RESHARD_HPP

/// @file
/// reshard in C++20: a thin layer over the C API, which stays the reference. What a call does, waits for and refuses is
/// said at the function of reshard.h that it is named after; here is only what differs:
///
///  - **Handles** are objects that move and do not copy: Layout, Machine, Plan, Comm, Memory, Binding, Manifest,
///    Reload. Each destroys what it owns, once. They are declared in the order comm, memory, binding, so that they go
///    in the other: memory must go after the bindings that use it and before its comm.
///  - **Errors** are values. A call returns Result<T>: a T, or an Error with status and message. Result is
///    std::expected<T, Error> where the standard library has that (C++23), else a class with the same interface but for
///    what throws. Nothing here throws, and it compiles without exceptions. The exception: where a vector or a string
///    that this layer makes finds no memory, the standard library does what it does then.
///  - **Options** are structs with defaults, for designated initialisers: `Plan::create(src, dst, {.open_groups = 2})`.
///  - **Times** are std::chrono durations. Timeouts must be positive; kInfinite never expires.
///  - **Texts** that are handed out are `const char*` and belong to the object asked, as in C.
///
/// Left to C, to be called with get(): names and sizes of dtypes and statuses, version and build
/// (reshard_dtype_size_bytes, reshard_dtype_name, reshard_dtype_parse, reshard_status_name, reshard_last_error,
/// reshard_version, reshard_build_info); blocks one by one (reshard_layout_num_blocks, reshard_layout_get_block:
/// Layout::blocks has all of a rank); reshard_layout_get_scales; reshard_alloc (Comm::alloc has every kind of memory).

#include <reshard/cpp/binding.hpp>
#include <reshard/cpp/comm.hpp>
#include <reshard/cpp/layout.hpp>
#include <reshard/cpp/plan.hpp>
#include <reshard/cpp/reload.hpp>
#include <reshard/cpp/result.hpp>

#endif  // RESHARD_RESHARD_HPP
