/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
#ifndef RESHARD_LAYOUT_H
#define RESHARD_LAYOUT_H

/**
 * @file
 * Layouts: which rank holds which elements of which tensor, and where in its memory. reshard.h includes this header,
 * and says in its first comment what holds for all functions. A program that only builds, asks, or keeps layouts may
 * include this one alone.
 *
 * A layout is made in one of these ways, which may follow each other on one layout:
 *
 *   from a model      reshard_layout_create_from_model: a config.json and a line of text
 *   from a spec       reshard_layout_create_from_spec: both sides in the general JSON form
 *   by hand           reshard_layout_create, then reshard_layout_add_tensor, and for each tensor reshard_layout_place
 * (a mesh of ranks) or reshard_layout_add_buffer and _add_block or _add_flat_range (any memory) from elsewhere
 * reshard_layout_deserialize; reshard_layout_exchange (reshard.h) from what each rank describes
 */

#include <reshard/base.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One side of a transfer: which rank holds which elements of which tensor, and at which address. */
typedef struct reshard_layout* reshard_layout_t;

/** One logical tensor, as the checkpoint names it. */
typedef struct reshard_tensor_desc {
  size_t struct_size;
  uint32_t version;
  const char* name;      /**< unique within the layout; both sides must use the same */
  reshard_dtype_t dtype; /**< of this side's elements */
  int32_t num_dims;      /**< 0 (a scalar) to RESHARD_MAX_DIMS */
  const int64_t* shape;  /**< num_dims extents, each >= 0; may be NULL when num_dims is 0 */
  int64_t group;         /**< completion group, e.g. the layer; any value; groups complete in ascending order */
} reshard_tensor_desc_t;

/**
 * Which elements of a tensor [..., M, N] share a scale. An element stands for its 8-bit float times the scale.
 * Scales of the first two kinds can be computed where a block lies whole on a rank; the others are given, as tensors.
 */
typedef enum reshard_scale_kind {
  RESHARD_SCALES_NONE = 0,
  RESHARD_SCALES_BLOCK128 = 1, /**< blocks of 128 x 128: F32 [..., ceil(M/128), ceil(N/128)] */
  RESHARD_SCALES_MXFP8 = 2,    /**< 32 along the last dimension: F8_E8M0 [..., M, ceil(N/32)] */
  RESHARD_SCALES_CHANNEL = 3,  /**< each row: F32 [..., M] or [..., M, 1] */
  RESHARD_SCALES_TENSOR = 4    /**< the whole: F32 [] or [1]; of 3 dimensions and more also each matrix: [...] */
} reshard_scale_kind_t;

/** How an axis of the mesh divides the dimension it is applied to. */
typedef enum reshard_rule {
  RESHARD_REPLICATE = 0,      /**< every coordinate holds all of it */
  RESHARD_SHARD_CHUNK = 1,    /**< torch.chunk: pieces of ceil(n / size), the last ones short or empty */
  RESHARD_SHARD_BALANCED = 2, /**< sizes differ by at most one, larger ones first */
  RESHARD_SHARD_EVEN = 3,     /**< the size must divide n */
  RESHARD_SHARD_CUTS = 4,     /**< explicit cuts 0 = c[0] <= c[1] <= ... <= c[size] = n */
  RESHARD_SHARD_CYCLIC = 5,   /**< blocks of `block` elements dealt out in turn */
  RESHARD_SHARD_TABLE = 6     /**< an explicit list of index ranges per coordinate; the local order is the table's */
} reshard_rule_t;

/** Half-open range of indices that a coordinate holds; ranges of one coordinate keep their order. */
typedef struct reshard_table_entry {
  int64_t coordinate; /**< on the axis of the mesh, from 0 */
  int64_t begin;      /**< first index of the dimension */
  int64_t end;        /**< one past the last */
} reshard_table_entry_t;

/** What one mesh axis does to the tensor; the init function gives RESHARD_REPLICATE. */
typedef struct reshard_axis_placement {
  size_t struct_size;
  uint32_t version;
  reshard_rule_t rule;                  /**< how the axis divides the dimension */
  int32_t dim;                          /**< dimension divided; ignored by RESHARD_REPLICATE */
  int64_t block;                        /**< RESHARD_SHARD_CYCLIC: elements per block, >= 1 */
  int64_t num_cuts;                     /**< RESHARD_SHARD_CUTS: axis size + 1 */
  const int64_t* cuts;                  /**< RESHARD_SHARD_CUTS: num_cuts indices, from 0 to the dimension's extent */
  int64_t num_entries;                  /**< RESHARD_SHARD_TABLE */
  const reshard_table_entry_t* entries; /**< RESHARD_SHARD_TABLE: num_entries of them, in the local order */
} reshard_axis_placement_t;

/**
 * Places one tensor on a mesh of ranks; each rank holds its piece as a dense array, in a buffer of its own that is
 * named as the tensor, or at an offset of a buffer that several placements share. Several axes on one dimension nest
 * left to right, each splitting the list that the axis to its left leaves. The init function gives a buffer of its own.
 */
typedef struct reshard_placement_desc {
  size_t struct_size;
  uint32_t version;
  int64_t tensor;                             /**< index that reshard_layout_add_tensor gave */
  int32_t num_axes;                           /**< >= 1 */
  const int64_t* axis_sizes;                  /**< num_axes sizes, each >= 1 */
  const int32_t* ranks;                       /**< their product many distinct ranks, row-major, last axis fastest */
  const reshard_axis_placement_t* placements; /**< num_axes of them */
  int32_t nest_inner_first;                   /**< not 0: axes on one dimension nest right to left */
  const int32_t* order;                       /**< memory order of the dims, slowest first; NULL: row-major */
  const int64_t* pad_to;                      /**< one local shape for all ranks, its tail zero-filled; NULL: none */
  int64_t buffer;       /**< id of a buffer that reshard_layout_add_buffer made with rank -1; -1: one of its own */
  int64_t offset_bytes; /**< where the array begins in `buffer`, equal on all ranks; 0 in a buffer of its own */
} reshard_placement_desc_t;

/** What a block is. */
typedef enum reshard_block_kind {
  RESHARD_BLOCK_DATA = 0,     /**< elements of the tensor */
  RESHARD_BLOCK_ZERO = 1,     /**< padding that every run fills with zeros */
  RESHARD_BLOCK_UNTOUCHED = 2 /**< padding that reshard never writes */
} reshard_block_kind_t;

/** One rank's strided piece of a tensor. The element at box index i lies at offset_bytes + sum((i-begin)*stride). */
typedef struct reshard_block {
  size_t struct_size;
  uint32_t version;
  reshard_block_kind_t kind;               /**< elements, or padding */
  int32_t rank;                            /**< that holds it */
  int64_t tensor;                          /**< index that reshard_layout_add_tensor gave */
  int64_t buffer;                          /**< id of the buffer it lies in */
  int64_t begin[RESHARD_MAX_DIMS];         /**< first global index per dim; padding: zeros */
  int64_t end[RESHARD_MAX_DIMS];           /**< one past the last global index; padding: its extent */
  int64_t local_begin[RESHARD_MAX_DIMS];   /**< place of the block in the rank's local tensor. Out only */
  int64_t offset_bytes;                    /**< of the first element, from the begin of the buffer */
  int64_t strides_bytes[RESHARD_MAX_DIMS]; /**< from one element to the next along each dim */
} reshard_block_t;

/** One allocation of one rank. */
typedef struct reshard_buffer_info {
  size_t struct_size;
  uint32_t version;
  int64_t id;         /**< by which bindings are told where it lies: reshard_buffer_t */
  const char* name;   /**< valid while the layout lives */
  int64_t size_bytes; /**< smallest size that holds all blocks */
} reshard_buffer_info_t;

/** A tensor as handed back. */
typedef struct reshard_tensor_info {
  size_t struct_size;
  uint32_t version;
  const char* name;                /**< valid while the layout lives */
  reshard_dtype_t dtype;           /**< of this side's elements */
  int32_t num_dims;                /**< 0 for a scalar */
  int64_t shape[RESHARD_MAX_DIMS]; /**< of the whole tensor, in elements; num_dims of them count */
  int64_t group;                   /**< completion group */
} reshard_tensor_info_t;

/** Options of reshard_layout_create_from_model. */
typedef struct reshard_model_options {
  size_t struct_size;
  uint32_t version;
  const char* config_json; /**< text of a Hugging Face config.json */
  const char* layout;      /**< "fsdp:shard=8,replicate=2", "megatron:tp=2,pp=2,dp=2,ep=4,etp=1", "vllm:tp=2,dp=4",
                                "sglang:tp=4,ep=4", "checkpoint" */
  int64_t num_layers;      /**< keep only the first N decoder layers; 0: all */
  int32_t first_rank;      /**< rank i of the layout is rank first_rank + i of the world */
  int32_t num_ranks;       /**< size of the world; 0: one more than the layout's greatest rank */
  /* Since version 2; version 1 ended here and is still taken. */
  const int32_t* rank_list; /**< NULL, or in place of first_rank: rank i of the layout is rank rank_list[i] */
  int64_t rank_list_size;   /**< exactly the ranks that the layout needs, each once */
  const char* dtype;        /**< of the tensors, e.g. "F32"; NULL: torch_dtype of the config. Router biases stay F32 */
  const char* include; /**< the tensors to keep: patterns separated by commas, "model.layers.*.mlp.*,lm_head.weight"; *
                            matches any characters, ? one; NULL: all */
  const char* exclude; /**< patterns of tensors to leave out of those; NULL: none */
} reshard_model_options_t;

RESHARD_API void reshard_tensor_desc_init_sized(reshard_tensor_desc_t* desc, size_t struct_size);
static inline void reshard_tensor_desc_init(reshard_tensor_desc_t* desc) {
  reshard_tensor_desc_init_sized(desc, sizeof(*desc));
}
RESHARD_API void reshard_axis_placement_init_sized(reshard_axis_placement_t* placement, size_t struct_size);
static inline void reshard_axis_placement_init(reshard_axis_placement_t* placement) {
  reshard_axis_placement_init_sized(placement, sizeof(*placement));
}
RESHARD_API void reshard_placement_desc_init_sized(reshard_placement_desc_t* desc, size_t struct_size);
static inline void reshard_placement_desc_init(reshard_placement_desc_t* desc) {
  reshard_placement_desc_init_sized(desc, sizeof(*desc));
}
RESHARD_API void reshard_block_init_sized(reshard_block_t* block, size_t struct_size);
static inline void reshard_block_init(reshard_block_t* block) {
  reshard_block_init_sized(block, sizeof(*block));
}
RESHARD_API void reshard_buffer_info_init_sized(reshard_buffer_info_t* info, size_t struct_size);
static inline void reshard_buffer_info_init(reshard_buffer_info_t* info) {
  reshard_buffer_info_init_sized(info, sizeof(*info));
}
RESHARD_API void reshard_tensor_info_init_sized(reshard_tensor_info_t* info, size_t struct_size);
static inline void reshard_tensor_info_init(reshard_tensor_info_t* info) {
  reshard_tensor_info_init_sized(info, sizeof(*info));
}
RESHARD_API void reshard_model_options_init_sized(reshard_model_options_t* options, size_t struct_size);
static inline void reshard_model_options_init(reshard_model_options_t* options) {
  reshard_model_options_init_sized(options, sizeof(*options));
}

/** An empty layout over a world of num_ranks ranks: 1 to 262,144, of which a layout may leave any without work. */
RESHARD_API reshard_status_t reshard_layout_create(int32_t num_ranks, reshard_layout_t* layout);

/**
 * The layout of a whole model from its config.json and a line of text; needs no framework.
 * A tensor that is left out leaves a gap in a fused buffer, which no run reads or writes.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for a malformed config or text (unknown keys list the known ones), a list of
 * ranks of another size or with a rank twice, and a pattern that matches no tensor;
 * RESHARD_ERR_NOT_SUPPORTED for a model family that is not known, RESHARD_ERR_IO for an unreadable eplb file.
 */
RESHARD_API reshard_status_t reshard_layout_create_from_model(const reshard_model_options_t* options,
                                                              reshard_layout_t* layout);

/** How many ranks a line of text such as "vllm:tp=2,replicas=4" needs. */
RESHARD_API reshard_status_t reshard_layout_text_num_ranks(const char* text, int32_t* num_ranks);

/**
 * Both sides of a transfer from the general JSON form (README, "The general form"). Unknown keys are errors.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT with the line and column of what is not JSON, else with tensor, side and key.
 */
RESHARD_API reshard_status_t reshard_layout_create_from_spec(const char* json, reshard_layout_t* src,
                                                             reshard_layout_t* dst);

/** Frees the layout. Plans made from it keep what they need. NULL is allowed. */
RESHARD_API void reshard_layout_destroy(reshard_layout_t layout);

/** Adds a tensor that no rank holds yet; [out] tensor its index, counting from 0. */
RESHARD_API reshard_status_t reshard_layout_add_tensor(reshard_layout_t layout, const reshard_tensor_desc_t* desc,
                                                       int64_t* tensor);

/**
 * Says that the elements of `tensor`, F8_E4M3, are to be read times scales, which the tensor `scales` of the same
 * layout holds. Both are tensors like others, placed where the caller likes. A plan whose other side has the tensor as
 * F32, F16 or BF16 converts: it quantises to these scales, which it computes where the source has no tensor of the
 * scale tensor's name, or dequantises. Errors: RESHARD_ERR_INVALID_ARGUMENT for a tensor that does not exist, dtypes or
 * shapes other than the kind's (reshard_scale_kind_t), tensors of different groups, scales that another tensor has.
 */
RESHARD_API reshard_status_t reshard_layout_set_scales(reshard_layout_t layout, int64_t tensor,
                                                       reshard_scale_kind_t kind, int64_t scales);

/** What reshard_layout_set_scales said: [out] kind RESHARD_SCALES_NONE and [out] scales -1 for a tensor without. */
RESHARD_API reshard_status_t reshard_layout_get_scales(reshard_layout_t layout, int64_t tensor,
                                                       reshard_scale_kind_t* kind, int64_t* scales);

/**
 * Places a tensor on a mesh. A tensor may be placed more than once (tied embeddings on two stages).
 * Errors: RESHARD_ERR_INVALID_ARGUMENT with the name of the tensor; nothing is added. That placements of a destination
 * overlap in a buffer that they share is told by the plan.
 */
RESHARD_API reshard_status_t reshard_layout_place(reshard_layout_t layout, const reshard_placement_desc_t* desc);

/**
 * Adds one rank's buffer of size_bytes for explicit blocks, or, with rank -1 and size_bytes 0, a buffer that placements
 * share (reshard_placement_desc_t.buffer): every rank of these placements has it, as large as they reach there.
 * Names need not differ. [out] buffer its id.
 */
RESHARD_API reshard_status_t reshard_layout_add_buffer(reshard_layout_t layout, int32_t rank, const char* name,
                                                       int64_t size_bytes, int64_t* buffer);

/** Adds one explicit block (data or padding). Blocks of a destination must not overlap; this is checked by the plan. */
RESHARD_API reshard_status_t reshard_layout_add_block(reshard_layout_t layout, const reshard_block_t* block);

/** Elements [begin, end) of the flattened tensor, as an FSDP1 FlatParameter holds them, from offset_bytes on. */
RESHARD_API reshard_status_t reshard_layout_add_flat_range(reshard_layout_t layout, int32_t rank, int64_t tensor,
                                                           int64_t begin, int64_t end, int64_t buffer,
                                                           int64_t offset_bytes);

/** These ranks hold nothing any more, e.g. a replica that is lost; the world keeps its size. */
RESHARD_API reshard_status_t reshard_layout_remove_ranks(reshard_layout_t layout, int32_t num_ranks,
                                                         const int32_t* ranks);

/** The size of the world. */
RESHARD_API reshard_status_t reshard_layout_num_ranks(reshard_layout_t layout, int32_t* num_ranks);

/** How many tensors were added; their indices are 0 to num_tensors - 1. */
RESHARD_API reshard_status_t reshard_layout_num_tensors(reshard_layout_t layout, int64_t* num_tensors);

/** Describes a tensor. Errors: RESHARD_ERR_INVALID_ARGUMENT for an index that there is not. */
RESHARD_API reshard_status_t reshard_layout_get_tensor(reshard_layout_t layout, int64_t tensor,
                                                       reshard_tensor_info_t* info);

/** Looks a tensor up by its name; [out] tensor its index, -1 when the layout has none of that name. */
RESHARD_API reshard_status_t reshard_layout_find_tensor(reshard_layout_t layout, const char* name, int64_t* tensor);

/** The buffers that `rank` must bring, in the order of their ids. */
RESHARD_API reshard_status_t reshard_layout_num_buffers(reshard_layout_t layout, int32_t rank, int64_t* num_buffers);

/** Buffer `index` of [0, num_buffers) of the rank. Errors: RESHARD_ERR_INVALID_ARGUMENT for another index. */
RESHARD_API reshard_status_t reshard_layout_get_buffer(reshard_layout_t layout, int32_t rank, int64_t index,
                                                       reshard_buffer_info_t* info);

/**
 * The local shape of a tensor on a rank, padding included, in the tensor's own dimension order.
 * [out] is_present 0 when the rank holds nothing of it and was not placed on it; an empty shard is present.
 * [out] local_shape RESHARD_MAX_DIMS extents. For explicit blocks: the shape of the box that encloses them.
 */
RESHARD_API reshard_status_t reshard_layout_get_local_shape(reshard_layout_t layout, int32_t rank, int64_t tensor,
                                                            int32_t* is_present, int64_t* local_shape);

/** How many blocks, padding included, the rank has of the tensor. */
RESHARD_API reshard_status_t reshard_layout_num_blocks(reshard_layout_t layout, int32_t rank, int64_t tensor,
                                                       int64_t* num_blocks);

/** Block `index` of [0, num_blocks) of them. Errors: RESHARD_ERR_INVALID_ARGUMENT for another index. */
RESHARD_API reshard_status_t reshard_layout_get_block(reshard_layout_t layout, int32_t rank, int64_t tensor,
                                                      int64_t index, reshard_block_t* block);

/**
 * All blocks of a rank in one call, padding included, in the order of the tensors and of reshard_layout_get_block.
 * @param capacity how many structs `blocks` holds; 0, with `blocks` NULL, only asks for their number.
 * @param blocks [out] the caller's array. The first struct must have been initialised: by its size the others are
 * found.
 * @param num_blocks [out] how many there are.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT when a capacity other than 0 is too small; nothing is written.
 */
RESHARD_API reshard_status_t reshard_layout_get_blocks(reshard_layout_t layout, int32_t rank, int64_t capacity,
                                                       reshard_block_t* blocks, int64_t* num_blocks);

/**
 * What lies on a rank, as text for people: its buffers, and in each the blocks in the order of their bytes with tensor,
 * dtype, index box and strides in bytes. The wording may change. [out] text owned by the layout, valid until the layout
 * is changed or destroyed.
 */
RESHARD_API reshard_status_t reshard_layout_describe_rank(reshard_layout_t layout, int32_t rank, const char** text);

/**
 * The layout as bytes, to be kept in a file or sent to any process on any machine: no comm is needed.
 * [out] bytes, size_bytes: owned by the layout, valid until the layout is changed or destroyed.
 */
RESHARD_API reshard_status_t reshard_layout_serialize(reshard_layout_t layout, const void** bytes, size_t* size_bytes);

/**
 * Reads a layout back; plans of it are equal to plans of the original. The bytes are copied, need no alignment and are
 * not trusted: all that the building functions check is checked, and memory stays in proportion to size_bytes.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for bytes that are no layout or were damaged, RESHARD_ERR_NOT_SUPPORTED for a
 * format of another version of the library.
 */
RESHARD_API reshard_status_t reshard_layout_deserialize(const void* bytes, size_t size_bytes, reshard_layout_t* layout);

#ifdef __cplusplus
}
#endif

#endif /* RESHARD_LAYOUT_H */
