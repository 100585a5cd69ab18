// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Streams hold work; nothing runs by itself. When somebody asks or waits, the stream of the highest priority that can
// go on does one piece of work, again and again. Priorities are random: what two streams do without an edge between
// them happens in the wrong order under some seeds, as late or as early as it possibly can.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace cuda_double {

struct Capture;
struct StreamState;

/// The work that a stream had been given when somebody looked: done when the stream has completed as much.
struct Mark {
  std::shared_ptr<StreamState> stream;
  std::int64_t number = 0;
  bool is_done() const;
};

struct Work {
  const char* what = "";
  std::function<bool()> run;  // false: not yet, call again
  std::vector<Mark> after;
  // For what is not the same from one run to the next: makes `run` anew, when a graph is launched.
  std::function<std::function<bool()>()> make = {};
};

struct StreamState {
  int device = 0;
  bool is_legacy = false;    // the default stream: runs after and before all work of blocking streams of its device
  bool is_blocking = false;  // of cudaStreamDefault
  std::uint64_t priority = 0;
  std::int64_t num_enqueued = 0;
  std::int64_t num_completed = 0;
  std::deque<Work> queue;
  std::shared_ptr<Capture> capture;              // null: none; else work is put into its graph, not done
  std::set<int> frontier;                        // nodes of that graph that the next one comes behind
  bool is_inner = false;                         // of a launch of a graph: gone when its work is done
  std::function<void(const char* what)> on_use;  // of whoever must not find it used just now
  Mark mark(const std::shared_ptr<StreamState>& self) const { return {self, num_enqueued}; }
};

struct EventState {
  int device = 0;
  Mark mark;  // of the last record
  // The same when that was in a stream that captured.
  std::shared_ptr<Capture> capture;
  std::set<int> frontier;
};

/// The stream behind a handle (null and 1 are the default stream of the current device, 2 stands for it, too); null
/// when there is none.
std::shared_ptr<StreamState> stream_of(void* handle);
void* add_stream(int device, bool is_blocking);
bool remove_stream(void* handle);

EventState* event_of(void* handle);
void* add_event(int device);
bool remove_event(void* handle);
std::int64_t num_events();

std::int64_t num_streams_and_events();
std::int64_t num_queued();

/// Before anything is queued or recorded: tells whoever watches the stream.
void note_use(const StreamState& stream, const char* what);

/// A stream without a handle, and putting work into it as it is.
std::shared_ptr<StreamState> add_inner_stream(int device);
void push(const std::shared_ptr<StreamState>& stream, Work work);

/// Queues, and does some of what is queued, as the seed has it.
void enqueue(const std::shared_ptr<StreamState>& stream, Work work);

/// Does some work, as the seed has it: at least one piece within a few calls, if any can be done.
void do_some();

/// Works until it is done. `what` waits, for the message when it never will be.
void work_until(const Mark& mark, const char* what);
void work_until_idle(int device, const char* what);
void work_until(const std::function<bool()>& is_done);  ///< of something that others may still have to queue

/// Work that is not done yet, but got on, says so: what waited for it is tried again before anybody sleeps.
void note_step();
std::int64_t num_steps();  ///< noted, and pieces of work done

/// A device that has failed does nothing more, and nobody waits for what it was given.
void lose_everything(int code);

/// Priorities and habits from the state's random numbers.
void draw_habits();

}  // namespace cuda_double
