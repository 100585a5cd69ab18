/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/*
 * A complete use of reshard in C: two processes hold a matrix cut by rows and want it cut by columns.
 * Real programs start their ranks with mpirun, torchrun or srun and call reshard_comm_create_from_environment.
 */
#define _POSIX_C_SOURCE 200809L
#include <reshard/reshard.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kNumRanks = 2, kRows = 4, kCols = 6, kTimeoutUs = 10000000 };

static void check(reshard_status_t status) {
  if (status == RESHARD_OK) return;
  fprintf(stderr, "%s: %s\n", reshard_status_name(status), reshard_last_error());
  exit(1);
}

/* The whole matrix is `shape`; dimension `dim` is cut over the two ranks. */
static reshard_layout_t make_layout(int32_t dim) {
  const int64_t shape[] = {kRows, kCols};
  const int64_t axis_sizes[] = {kNumRanks};
  const int32_t ranks[] = {0, 1};
  reshard_axis_placement_t axis;
  reshard_tensor_desc_t tensor;
  reshard_placement_desc_t placement;
  reshard_layout_t layout = NULL;

  check(reshard_layout_create(kNumRanks, &layout));
  reshard_tensor_desc_init(&tensor);
  tensor.name = "weight";
  tensor.dtype = RESHARD_F32;
  tensor.num_dims = 2;
  tensor.shape = shape;
  reshard_placement_desc_init(&placement);
  check(reshard_layout_add_tensor(layout, &tensor, &placement.tensor));
  reshard_axis_placement_init(&axis);
  axis.rule = RESHARD_SHARD_CHUNK;
  axis.dim = dim;
  placement.num_axes = 1;
  placement.axis_sizes = axis_sizes;
  placement.ranks = ranks;
  placement.placements = &axis;
  check(reshard_layout_place(layout, &placement));
  return layout;
}

/* The one buffer that this rank must bring for the layout. */
static reshard_buffer_t make_buffer(reshard_comm_t comm, reshard_layout_t layout, int32_t rank) {
  reshard_buffer_info_t info;
  reshard_buffer_t buffer;
  reshard_buffer_info_init(&info);
  check(reshard_layout_get_buffer(layout, rank, 0, &info));
  reshard_buffer_init(&buffer);
  buffer.id = info.id;
  buffer.size_bytes = (size_t)info.size_bytes;
  check(reshard_alloc(comm, buffer.size_bytes, &buffer.ptr));
  return buffer;
}

static void run_rank(const reshard_unique_id_t* id, int32_t rank) {
  reshard_layout_t src = make_layout(0);
  reshard_layout_t dst = make_layout(1);
  reshard_plan_t plan = NULL;
  reshard_comm_t comm = NULL;
  reshard_binding_t binding = NULL;
  reshard_binding_desc_t desc;
  reshard_buffer_t from, to;
  float* rows;
  const float* cols;

  check(reshard_plan_create(src, dst, NULL, &plan)); /* pure: every rank makes the same plan for itself */
  check(reshard_comm_create_from_id(id, rank, kNumRanks, NULL, &comm));
  from = make_buffer(comm, src, rank);
  to = make_buffer(comm, dst, rank);
  rows = from.ptr;
  cols = to.ptr;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  desc.num_src_buffers = 1;
  desc.src_buffers = &from;
  desc.num_dst_buffers = 1;
  desc.dst_buffers = &to;
  check(reshard_binding_create(&desc, &binding));

  for (int step = 0; step < 3; ++step) { /* new values, same plan: nothing is allocated any more */
    for (int i = 0; i < kRows / kNumRanks * kCols; ++i) {
      rows[i] = (float)(100 * step + rank * kRows / kNumRanks * kCols + i);
    }
    check(reshard_binding_start(binding, NULL));
    check(reshard_binding_finish(binding, kTimeoutUs));
    for (int i = 0; i < kRows * kCols / kNumRanks; ++i) {
      const int row = i / (kCols / kNumRanks);
      const int col = i % (kCols / kNumRanks) + rank * kCols / kNumRanks;
      if (cols[i] != (float)(100 * step + row * kCols + col)) {
        fprintf(stderr, "rank %d: element (%d, %d) is wrong\n", (int)rank, row, col);
        exit(1);
      }
    }
  }

  reshard_binding_destroy(binding);
  check(reshard_comm_allgather(comm, &rank, (int32_t[kNumRanks]){0}, sizeof rank, kTimeoutUs)); /* a barrier */
  check(reshard_free(comm, from.ptr));
  check(reshard_free(comm, to.ptr));
  reshard_comm_destroy(comm);
  reshard_plan_destroy(plan);
  reshard_layout_destroy(src);
  reshard_layout_destroy(dst);
}

int main(void) {
  reshard_unique_id_t id;
  int ends[2];
  int status = 0;
  pid_t child;
  if (pipe(ends) != 0 || (child = fork()) < 0) return 1;
  if (child == 0) { /* rank 1 gets the id from rank 0, here through a pipe */
    if (read(ends[0], &id, sizeof id) != (ssize_t)sizeof id) return 1;
    run_rank(&id, 1);
    return 0;
  }
  check(reshard_unique_id_create(NULL, &id));
  if (write(ends[1], &id, sizeof id) != (ssize_t)sizeof id) return 1;
  run_rank(&id, 0);
  if (waitpid(child, &status, 0) != child || status != 0) return 1;
  printf("reshard %s: every element arrived\n", reshard_version());
  return 0;
}
