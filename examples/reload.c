/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/*
 * A server takes new weights while it keeps its pointers: ranks 0 and 1 are a trainer, ranks 2 and 3 a server with
 * tensor parallelism. The server holds w as 8-bit integers with a scale for each row, and beside kv_b_proj, which it
 * keeps, what latent attention derives from it, W_UV and W_UK_T. A thread makes these of layer k while layer k + 1
 * arrives. Two layers are open at once, so scratch is that of two layers, however many the model has.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <reshard/reshard.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRanks = 4, kTrainers = 2, kServers = 2, kLayers = 6, kOpenLayers = 2, kSteps = 3, kTimeoutUs = 20000000 };
enum { kRows = 64, kCols = 96 };                      /* of w */
enum { kHeads = 4, kNope = 6, kV = 8, kLatent = 16 }; /* of kv_b_proj: [heads * (nope + v), latent] */
enum { kMyRows = kRows / kServers, kMyHeads = kHeads / kServers, kPerHead = kNope + kV };
enum { kInt8, kScales, kUv, kUkT, kNumOutputs }; /* what a server makes of a layer */

static void check(reshard_status_t status) {
  if (status == RESHARD_OK) return;
  fprintf(stderr, "%s: %s\n", reshard_status_name(status), reshard_last_error());
  exit(1);
}

static void fail(const char* what, int layer, int index) {
  fprintf(stderr, "%s of layer %d is wrong at %d\n", what, layer, index);
  exit(1);
}

/* What the trainer's tensors hold in a step: eighths, so that 8 bits hold a row exactly whose largest is 127 eighths.
 */
static int eighths_of(int step, int layer, int tensor, int row, int col) {
  return col == 0 ? 127 : (step * 31 + layer * 17 + tensor * 5 + row * 7 + col * 3) % 255 - 127;
}
static float value_of(int step, int layer, int tensor, int row, int col) {
  return (float)eighths_of(step, layer, tensor, row, col) / 8;
}

/* Tensors 0 (w) and 1 (kv_b_proj) of each layer, which are its group; rows are cut over two ranks from `first` on. */
static reshard_layout_t make_layout(int32_t first) {
  const int64_t shapes[2][2] = {{kRows, kCols}, {kHeads * kPerHead, kLatent}};
  const int64_t axis_size = 2;
  const int32_t ranks[] = {first, first + 1};
  reshard_axis_placement_t axis;
  reshard_layout_t layout = NULL;
  check(reshard_layout_create(kRanks, &layout));
  reshard_axis_placement_init(&axis);
  axis.rule = RESHARD_SHARD_EVEN;
  for (int t = 0; t < 2 * kLayers; ++t) {
    char name[64];
    reshard_tensor_desc_t tensor;
    reshard_placement_desc_t placement;
    snprintf(name, sizeof name, "layers.%d.%s", t / 2, t % 2 == 0 ? "w" : "kv_b_proj");
    reshard_tensor_desc_init(&tensor);
    tensor.name = name;
    tensor.dtype = RESHARD_F32;
    tensor.num_dims = 2;
    tensor.shape = shapes[t % 2];
    tensor.group = t / 2;
    reshard_placement_desc_init(&placement);
    check(reshard_layout_add_tensor(layout, &tensor, &placement.tensor));
    placement.num_axes = 1;
    placement.axis_sizes = &axis_size;
    placement.ranks = ranks;
    placement.placements = &axis;
    check(reshard_layout_place(layout, &placement));
  }
  return layout;
}

/* A server's layer where it stays. */
typedef struct Layer {
  float kv_b_proj[kMyHeads * kPerHead][kLatent];
  int8_t w[kMyRows][kCols];
  float scales[kMyRows];
  float uv[kMyHeads][kLatent][kV];
  float uk_t[kMyHeads][kNope][kLatent];
} Layer;

/* ---- the caller's own work on a layer that has landed: it may run on any thread, and knows nothing of reshard's state
 */

static void quantise(const float* w, int8_t* out, float* scales) {
  for (int row = 0; row < kMyRows; ++row, w += kCols, out += kCols) {
    float largest = 0;
    for (int col = 0; col < kCols; ++col) largest = fmaxf(largest, fabsf(w[col]));
    scales[row] = largest / 127;
    for (int col = 0; col < kCols; ++col) out[col] = (int8_t)lrintf(w[col] / scales[row]);
  }
}

static void derive(const float* kv_b_proj, float* uv, float* uk_t) {
  for (int head = 0; head < kMyHeads; ++head) {
    for (int row = 0; row < kPerHead; ++row) {
      for (int c = 0; c < kLatent; ++c, ++kv_b_proj) {
        if (row < kNope) uk_t[(head * kNope + row) * kLatent + c] = *kv_b_proj;
        if (row >= kNope) uv[(head * kLatent + c) * kV + row - kNope] = *kv_b_proj;
      }
    }
  }
}

static void* make_outputs(void* argument) {
  const reshard_reload_layer_t* layer = argument;
  quantise(layer->buffers[0].ptr, layer->outputs[kInt8].ptr, layer->outputs[kScales].ptr);
  derive(layer->buffers[1].ptr, layer->outputs[kUv].ptr, layer->outputs[kUkT].ptr);
  return NULL;
}

/* Layer k is with the thread while layer k + 1 arrives; it is committed before layer k + 2 may. */
static void take_layers(reshard_reload_t reload) {
  reshard_reload_layer_t layers[2];
  pthread_t thread;
  int32_t has_layer = 1;
  for (int k = 0; has_layer; ++k) {
    reshard_reload_layer_init(&layers[k % 2]);
    check(reshard_reload_next(reload, kTimeoutUs, &layers[k % 2], &has_layer));
    if (k > 0) {
      if (pthread_join(thread, NULL) != 0) exit(1);
      check(reshard_reload_commit(reload, layers[(k - 1) % 2].group, NULL));
    }
    if (has_layer && pthread_create(&thread, NULL, make_outputs, &layers[k % 2]) != 0) exit(1);
  }
}

/* Every element, by formulas of its own. */
static void check_layer(const Layer* layer, int step, int l, int server) {
  for (int i = 0; i < kMyRows * kCols; ++i) {
    const int row = server * kMyRows + i / kCols;
    if (layer->w[i / kCols][i % kCols] != eighths_of(step, l, 0, row, i % kCols)) fail("w", l, i);
    if (layer->scales[i / kCols] != 0.125F) fail("a scale", l, i / kCols);
  }
  for (int i = 0; i < kMyHeads * kPerHead * kLatent; ++i) {
    const int row = i / kLatent, c = i % kLatent, head = row / kPerHead, in_head = row % kPerHead;
    const float expected = value_of(step, l, 1, server * kMyHeads * kPerHead + row, c);
    const float derived = in_head < kNope ? layer->uk_t[head][in_head][c] : layer->uv[head][c][in_head - kNope];
    if (layer->kv_b_proj[row][c] != expected) fail("kv_b_proj", l, i);
    if (derived != expected) fail("W_UV or W_UK_T", l, i);
  }
}

/* ---- reshard */

/* The buffers of this rank: a trainer's own memory, a server's where they stay. w lies in scratch alone. */
static int64_t list_buffers(reshard_layout_t layout, int32_t rank, float** trained, Layer* layers,
                            reshard_buffer_t* buffers) {
  int64_t count = 0;
  check(reshard_layout_num_buffers(layout, rank, &count));
  for (int64_t i = 0; i < count; ++i) {
    reshard_buffer_info_t info;
    reshard_buffer_info_init(&info);
    check(reshard_layout_get_buffer(layout, rank, i, &info));
    reshard_buffer_init(&buffers[i]);
    buffers[i].id = info.id;
    buffers[i].size_bytes = (size_t)info.size_bytes;
    if (layers != NULL && i % 2 == 1) buffers[i].ptr = layers[i / 2].kv_b_proj;
    if (layers == NULL) buffers[i].ptr = trained[i] = malloc((size_t)info.size_bytes);
  }
  return count;
}

static void list_outputs(Layer* layers, reshard_reload_output_t outputs[][kNumOutputs]) {
  for (int l = 0; l < kLayers; ++l) {
    void* const places[] = {layers[l].w, layers[l].scales, layers[l].uv, layers[l].uk_t};
    const size_t sizes[] = {sizeof layers[l].w, sizeof layers[l].scales, sizeof layers[l].uv, sizeof layers[l].uk_t};
    for (int i = 0; i < kNumOutputs; ++i) {
      reshard_reload_output_init(&outputs[l][i]);
      outputs[l][i].group = l;
      outputs[l][i].ptr = places[i];
      outputs[l][i].size_bytes = sizes[i];
    }
  }
}

static void train(float** trained, int step, int32_t rank) {
  for (int t = 0; t < 2 * kLayers; ++t) {
    const int cols = t % 2 == 0 ? kCols : kLatent;
    const int rows = (t % 2 == 0 ? kRows : kHeads * kPerHead) / kTrainers;
    for (int i = 0; i < rows * cols; ++i) {
      trained[t][i] = value_of(step, t / 2, t % 2, rank * rows + i / cols, i % cols);
    }
  }
}

static reshard_plan_t make_plan(reshard_layout_t src, reshard_layout_t dst) {
  reshard_plan_options_t options;
  reshard_plan_t plan = NULL;
  reshard_plan_options_init(&options);
  options.open_groups = kOpenLayers;
  check(reshard_plan_create(src, dst, &options, &plan));
  return plan;
}

/* All ranks alike: those that only give hand out no layer. */
static void run_rank(const reshard_unique_id_t* id, int32_t rank) {
  static Layer layers[kLayers];
  static reshard_reload_output_t outputs[kLayers][kNumOutputs];
  reshard_buffer_t from[2 * kLayers], to[2 * kLayers];
  float* trained[2 * kLayers] = {NULL};
  const int is_server = rank >= kTrainers;
  reshard_layout_t src = make_layout(0), dst = make_layout(kTrainers);
  reshard_reload_desc_t desc;
  reshard_reload_t reload = NULL;
  reshard_comm_t comm = NULL;
  int64_t scratch_bytes = 0;

  check(reshard_comm_create_from_id(id, rank, kRanks, NULL, &comm));
  reshard_reload_desc_init(&desc);
  desc.plan = make_plan(src, dst);
  desc.comm = comm;
  desc.num_src_buffers = list_buffers(src, rank, trained, NULL, from);
  desc.src_buffers = from;
  desc.num_dst_buffers = list_buffers(dst, rank, NULL, layers, to);
  desc.dst_buffers = to;
  list_outputs(layers, outputs);
  desc.num_outputs = is_server ? kLayers * kNumOutputs : 0;
  desc.outputs = outputs[0];
  check(reshard_reload_create(&desc, &reload));
  check(reshard_reload_get_stats(reload, NULL, &scratch_bytes));
  for (int step = 0; step < kSteps; ++step) {
    if (!is_server) train(trained, step, rank);
    check(reshard_reload_start(reload, NULL));
    if (is_server) take_layers(reload);
    check(reshard_reload_finish(reload, kTimeoutUs));
    for (int l = 0; l < kLayers && is_server; ++l) check_layer(&layers[l], step, l, rank - kTrainers);
  }
  if (rank == kTrainers)
    printf("%d layers of %zu bytes with %lld bytes of scratch\n", (int)kLayers,
           sizeof(Layer) + kMyRows * kCols * sizeof(float), (long long)scratch_bytes);
  reshard_reload_destroy(reload);
  reshard_plan_destroy(desc.plan);
  reshard_comm_destroy(comm);
  reshard_layout_destroy(src);
  reshard_layout_destroy(dst);
  for (int t = 0; t < 2 * kLayers; ++t) free(trained[t]);
}

int main(void) {
  reshard_unique_id_t id;
  int ends[2];
  int failed = 0;
  if (pipe(ends) != 0) return 1;
  for (int32_t rank = 1; rank < kRanks; ++rank) {
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child > 0) continue;
    if (read(ends[0], &id, sizeof id) != (ssize_t)sizeof id) return 1;
    run_rank(&id, rank);
    return 0;
  }
  check(reshard_unique_id_create(NULL, &id));
  for (int32_t rank = 1; rank < kRanks; ++rank) {
    if (write(ends[1], &id, sizeof id) != (ssize_t)sizeof id) return 1;
  }
  run_rank(&id, 0);
  for (int32_t rank = 1; rank < kRanks; ++rank) {
    int status = 0;
    if (wait(&status) < 0 || status != 0) failed = 1;
  }
  if (!failed) printf("every layer is new, quantised, and where it was\n");
  return failed;
}
