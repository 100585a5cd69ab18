/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
#include <inttypes.h>
#include <reshard/reshard.h>
#include <stdio.h>

/* A 4 x 4 matrix of floats on two ranks, cut along dim. Returns NULL on failure. */
static reshard_layout_t cut(int32_t dim) {
  const int64_t shape[] = {4, 4};
  const int64_t axis_sizes[] = {2};
  const int32_t ranks[] = {0, 1};
  reshard_axis_placement_t shard;
  reshard_tensor_desc_t tensor;
  reshard_placement_desc_t placement;
  reshard_layout_t layout = NULL;

  reshard_tensor_desc_init(&tensor);
  tensor.name = "w";
  tensor.dtype = RESHARD_F32;
  tensor.num_dims = 2;
  tensor.shape = shape;

  reshard_axis_placement_init(&shard);
  shard.rule = RESHARD_SHARD_EVEN;
  shard.dim = dim;
  reshard_placement_desc_init(&placement);
  placement.num_axes = 1;
  placement.axis_sizes = axis_sizes;
  placement.ranks = ranks;
  placement.placements = &shard;

  if (reshard_layout_create(2, &layout) != RESHARD_OK) return NULL;
  if (reshard_layout_add_tensor(layout, &tensor, &placement.tensor) == RESHARD_OK &&
      reshard_layout_place(layout, &placement) == RESHARD_OK) {
    return layout;
  }
  reshard_layout_destroy(layout);
  return NULL;
}

/* Rows to columns: each rank keeps a quarter of the matrix and sends a quarter to the other. */
int main(void) {
  const reshard_layout_t src = cut(0);
  const reshard_layout_t dst = cut(1);
  reshard_plan_t plan = NULL;
  reshard_plan_info_t info;
  int wrong = 1;

  reshard_plan_info_init(&info);
  if (src != NULL && dst != NULL && reshard_plan_create(src, dst, NULL, &plan) == RESHARD_OK &&
      reshard_plan_get_info(plan, &info) == RESHARD_OK) {
    printf("reshard %s: %" PRId64 " messages, %" PRId64 " bytes cross, %" PRId64 " stay\n", reshard_version(),
           info.num_messages, info.bytes_crossed, info.bytes_local);
    wrong = info.num_messages != 2 || info.bytes_crossed != 32 || info.bytes_local != 32;
  } else {
    fprintf(stderr, "%s\n", reshard_last_error());
  }
  reshard_plan_destroy(plan);
  reshard_layout_destroy(dst);
  reshard_layout_destroy(src);
  return wrong;
}
