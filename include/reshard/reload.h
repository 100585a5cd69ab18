/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
#ifndef RESHARD_RELOAD_H
#define RESHARD_RELOAD_H

/**
 * @file
 * New weights for a server that is up: it quantises or repacks each layer as it arrives, holds few of them open, and
 * keeps its pointers. reshard.h includes this header, and says in its first comment what holds for all functions.
 *
 *   manifest  what completes each destination tensor of a rank, exactly; from the plan alone
 *   reload    a binding whose layers land in scratch and are committed one by one to where they stay:
 *             start, then for each layer next ... commit, then finish; again and again; update for another plan
 */

#include <reshard/reshard.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------------- manifest */

/** What a run of a plan brings to one rank: a plain list, computed from the plan alone. */
typedef struct reshard_manifest* reshard_manifest_t;

/** What completes one destination tensor on the rank. */
typedef struct reshard_manifest_tensor {
  size_t struct_size;
  uint32_t version;
  const char* name;        /**< valid while the manifest lives */
  int64_t tensor;          /**< index in the destination layout */
  int64_t group;           /**< in which it becomes complete: reshard_binding_wait_group */
  int64_t num_pieces;      /**< reshard_manifest_get_piece */
  int64_t num_elements;    /**< of the tensor that this rank gets, each once */
  int64_t written_bytes;   /**< of its elements in the rank's buffers: those that it has twice count twice */
  int64_t zero_bytes;      /**< padding that every run fills with zeros */
  int64_t untouched_bytes; /**< padding that is never written */
  int32_t is_converted;    /**< not 0: made on this rank, from what its pieces bring; without pieces: from another's */
} reshard_manifest_tensor_t;

/** A box of elements that a rank gets. */
typedef struct reshard_manifest_piece {
  size_t struct_size;
  uint32_t version;
  const char* source;              /**< name of the source tensor: of another only where scales come for a conversion */
  int32_t source_rank;             /**< whose elements they are */
  int32_t from_rank;               /**< who gives them: the rank itself, the source, or a rank that passes them on */
  int64_t num_elements;            /**< of the box */
  int64_t begin[RESHARD_MAX_DIMS]; /**< first index per dimension of the source tensor, e.g. the expert */
  int64_t end[RESHARD_MAX_DIMS];   /**< one past the last */
} reshard_manifest_piece_t;

RESHARD_API void reshard_manifest_tensor_init_sized(reshard_manifest_tensor_t* tensor, size_t struct_size);
static inline void reshard_manifest_tensor_init(reshard_manifest_tensor_t* tensor) {
  reshard_manifest_tensor_init_sized(tensor, sizeof(*tensor));
}
RESHARD_API void reshard_manifest_piece_init_sized(reshard_manifest_piece_t* piece, size_t struct_size);
static inline void reshard_manifest_piece_init(reshard_manifest_piece_t* piece) {
  reshard_manifest_piece_init_sized(piece, sizeof(*piece));
}

/**
 * What every run of the plan brings to `rank`. Local and pure: any rank may ask for any. The pieces of a tensor are
 * disjoint, and hold every element that the rank has of it and no other; replicas, padding and tensors that the plan
 * leaves alone are no pieces.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for a rank outside the plan.
 */
RESHARD_API reshard_status_t reshard_manifest_create(reshard_plan_t plan, int32_t rank, reshard_manifest_t* manifest);

/** Frees the manifest, and the names that it handed out. NULL is allowed. */
RESHARD_API void reshard_manifest_destroy(reshard_manifest_t manifest);

/** Destination tensors of which the rank has anything, in the order of the layout. */
RESHARD_API reshard_status_t reshard_manifest_num_tensors(reshard_manifest_t manifest, int64_t* num_tensors);

/** Errors: RESHARD_ERR_INVALID_ARGUMENT for an index that there is not. */
RESHARD_API reshard_status_t reshard_manifest_get_tensor(reshard_manifest_t manifest, int64_t index,
                                                         reshard_manifest_tensor_t* tensor);

/** Piece `piece` of the tensor at `index` of the manifest. Errors as reshard_manifest_get_tensor. */
RESHARD_API reshard_status_t reshard_manifest_get_piece(reshard_manifest_t manifest, int64_t index, int64_t piece,
                                                        reshard_manifest_piece_t* info);

/* ---------------------------------------------------------------------------------------------------- reload */

/**
 * A binding for a server. A layer is a group of the plan, as this rank has it: its destination buffers, and what the
 * caller makes of them. It lands in scratch of the reload, is handed out to the caller, who quantises, repacks or
 * derives as he likes, on whichever thread or stream, while the layers behind it arrive, and is then committed: copied
 * to where it stays. Scratch is that of as many layers as the plan lets be open at once (reshard_plan_options_t,
 * open_groups), whatever the size of the model; with open_groups 0 it is that of all.
 *
 * A layer changes in reshard_reload_commit alone. So when a run fails, for whatever reason, each layer is complete or
 * as it was (reshard_reload_get_state); only layers that land directly may be torn.
 */
typedef struct reshard_reload* reshard_reload_t;

/** Memory that the caller fills out of a layer: packed weights, their scales, tensors derived from others. */
typedef struct reshard_reload_output {
  size_t struct_size;
  uint32_t version;
  int64_t group;     /**< with which it is made and committed */
  void* ptr;         /**< where it stays; memory of the same kind as the buffers, owned by the caller */
  size_t size_bytes; /**< of all that lies at ptr */
} reshard_reload_output_t;

/** What reshard_reload_create makes a reload of, as a rank has it. */
typedef struct reshard_reload_desc {
  size_t struct_size;
  uint32_t version;
  reshard_plan_t plan;                 /**< kept alive by the reload */
  reshard_comm_t comm;                 /**< of exactly the plan's number of ranks; kept alive by the reload */
  int64_t num_src_buffers;             /**< length of src_buffers */
  const reshard_buffer_t* src_buffers; /**< every buffer of this rank in the source layout, in any order */
  int64_t num_dst_buffers;             /**< length of dst_buffers */
  /**
   * Every buffer of this rank in the destination layout, in any order: ptr is where it stays. NULL: it lies in scratch
   * alone, and what the caller makes of it are outputs; device and memory must then be given all the same.
   */
  const reshard_buffer_t* dst_buffers;
  int64_t num_outputs;                    /**< length of outputs */
  const reshard_reload_output_t* outputs; /**< of this rank, in any order */
  /**
   * Not 0: buffers whose ptr is not NULL are written where they stay, with no scratch and no copy; a run that fails may
   * leave those of the open layers torn. Default 0.
   */
  int32_t lands_directly;
  int64_t timeout_us; /**< for the exchange with the other ranks; default 60 s */
} reshard_reload_desc_t;

/** A layer that has landed, as reshard_reload_next hands it out. */
typedef struct reshard_reload_layer {
  size_t struct_size;
  uint32_t version;
  int64_t group;       /**< by which it is committed */
  int64_t num_buffers; /**< length of buffers */
  /**
   * The destination buffers of the layer: id, and ptr where it landed, in scratch or where it stays. Owned by the
   * reload; the caller may read and change what lies there until he commits the layer.
   */
  const reshard_buffer_t* buffers;
  int64_t num_outputs; /**< length of outputs */
  /** In the order of reshard_reload_desc_t.outputs: scratch to be filled before the layer is committed. As `buffers`.
   */
  const reshard_buffer_t* outputs;
} reshard_reload_layer_t;

/** What a layer is on this rank. */
typedef enum reshard_layer_state {
  RESHARD_LAYER_UNCHANGED = 0, /**< as before the last run */
  RESHARD_LAYER_COMPLETE = 1,  /**< all of it is new */
  RESHARD_LAYER_TORN = 2       /**< it lands directly, and the run may have written some of it: only a run that
                                    succeeds mends it */
} reshard_layer_state_t;

RESHARD_API void reshard_reload_output_init_sized(reshard_reload_output_t* output, size_t struct_size);
static inline void reshard_reload_output_init(reshard_reload_output_t* output) {
  reshard_reload_output_init_sized(output, sizeof(*output));
}
RESHARD_API void reshard_reload_desc_init_sized(reshard_reload_desc_t* desc, size_t struct_size);
static inline void reshard_reload_desc_init(reshard_reload_desc_t* desc) {
  reshard_reload_desc_init_sized(desc, sizeof(*desc));
}
RESHARD_API void reshard_reload_layer_init_sized(reshard_reload_layer_t* layer, size_t struct_size);
static inline void reshard_reload_layer_init(reshard_reload_layer_t* layer) {
  reshard_reload_layer_init_sized(layer, sizeof(*layer));
}

/**
 * Collective, as reshard_binding_create, with the same errors, and these on every rank when one has them:
 * RESHARD_ERR_INVALID_ARGUMENT for a buffer in scratch that has tensors of several groups, outputs of a group that the
 * plan has not got, or that overlap a buffer; RESHARD_ERR_OUT_OF_MEMORY for the scratch. The run is polled
 * (RESHARD_DRIVER_POLL). Ranks that only give, and have no layers, make a reload as all others do, and call
 * reshard_reload_start and _finish.
 */
RESHARD_API reshard_status_t reshard_reload_create(const reshard_reload_desc_t* desc, reshard_reload_t* reload);

/**
 * Goes on to another plan of the same ranks, as after reshard_plan_update with a new table of experts. What has not
 * changed is used again, as by reshard_binding_update, and so is the scratch where the open layers of the new plan fit
 * into it. Where layers stay is not touched: what was committed is served on until a run of the new plan commits
 * another. Collective, in two phases, as reshard_reload_create. What reshard_reload_next handed out is gone. Runs are
 * counted from 0 again; reshard_reload_get_state tells of the last run before until one of the new plan starts.
 * @param desc [in] plan: the new one, kept alive by the reload. comm: NULL, or the reload's. Buffers: only those that
 *   stay elsewhere than before (also where memory was freed and allocated again at the same address), or in scratch
 *   alone now, and those that the older plan's layouts have not got; a buffer that is not given is that of the same id
 *   and name. Outputs: all of the rank, or none to keep those that it has. lands_directly: 0, or as it was.
 *   timeout_us as there.
 * Errors, on every rank when one rank has them, and the reload is as it was, on every rank: those of
 * reshard_reload_create and reshard_binding_update, among them RESHARD_ERR_PLAN_MISMATCH where a rank comes with a
 * stale table; RESHARD_ERR_INVALID_STATE between reshard_reload_start and _finish; RESHARD_ERR_INVALID_ARGUMENT for an
 * output that is not given and has a group that the new plan has not got.
 * Until it returns both programs are in memory, and both scratches where the new one is larger.
 */
RESHARD_API reshard_status_t reshard_reload_update(reshard_reload_t reload, const reshard_reload_desc_t* desc);

/** As reshard_binding_destroy. Frees the scratch: layers that were handed out are gone. NULL is allowed. */
RESHARD_API void reshard_reload_destroy(reshard_reload_t reload);

/** As reshard_binding_start. */
RESHARD_API reshard_status_t reshard_reload_start(reshard_reload_t reload, void* stream);

/**
 * Blocks until the next layer has landed, and hands it out. Layers come in this rank's order of groups; those of which
 * it has nothing are passed over.
 * @param layer [out] filled if there is one.
 * @param has_layer [out] 0 when all layers have been handed out.
 * Errors: RESHARD_ERR_INVALID_STATE outside of a run, and when as many layers are with the caller as may be open, so
 * that none can come before one is committed; else as reshard_binding_wait_group. After an error reshard_reload_finish
 * is to be called all the same.
 */
RESHARD_API reshard_status_t reshard_reload_next(reshard_reload_t reload, int64_t timeout_us,
                                                 reshard_reload_layer_t* layer, int32_t* has_layer);

/**
 * Moves the run on a little without waiting, for use while a layer is being quantised. [out] has_layer, may be NULL:
 * not 0 when reshard_reload_next will hand one out at once. Errors as reshard_binding_poll.
 */
RESHARD_API reshard_status_t reshard_reload_poll(reshard_reload_t reload, int32_t* has_layer);

/**
 * Copies a layer that was handed out, its outputs included, to where it stays, and returns when it is there; its
 * scratch is another layer's from then on. Of a buffer only what a run writes is copied: gaps in it, padding that is
 * untouched, and tensors that the plan leaves alone keep their values. Layers may be committed in any order, and after
 * the run has failed, too: what was handed out had landed.
 * @param stream for device memory: a cudaStream_t; the copy is ordered after what it holds now. NULL for host memory.
 * Errors: RESHARD_ERR_INVALID_STATE for a layer that is not with the caller, RESHARD_ERR_INVALID_ARGUMENT.
 */
RESHARD_API reshard_status_t reshard_reload_commit(reshard_reload_t reload, int64_t group, void* stream);

/**
 * The caller cannot go on: the run is given up on this rank, and its peers are told. Layers that are not committed stay
 * as they were. reshard_reload_finish then returns RESHARD_ERR_GIVEN_UP with this reason.
 * @param reason for people; NULL: none.
 */
RESHARD_API reshard_status_t reshard_reload_give_up(reshard_reload_t reload, const char* reason);

/**
 * Collective, to be called after every start, whatever failed meanwhile. Waits for layers that were not handed out yet,
 * commits those that need nothing of the caller, ends the run, and tells every rank whether all of them have all: it is
 * RESHARD_OK on all ranks or on none, but for ranks that do not hear of the others any more. A rank that failed gets
 * its own error, the others that of the first rank that did. Waits for at most twice timeout_us.
 * Errors: RESHARD_ERR_INVALID_STATE outside of a run; for a layer that was handed out and not committed, or has outputs
 * or buffers in scratch alone and was not handed out; RESHARD_ERR_GIVEN_UP; else as reshard_binding_finish. The next
 * start may follow after any of them, but for peers that are gone.
 */
RESHARD_API reshard_status_t reshard_reload_finish(reshard_reload_t reload, int64_t timeout_us);

/**
 * What a layer is on this rank, in a run or after it. RESHARD_ERR_INVALID_ARGUMENT for a group that the plan has not
 * got.
 */
RESHARD_API reshard_status_t reshard_reload_get_state(reshard_reload_t reload, int64_t group,
                                                      reshard_layer_state_t* state);

/** Counters as of a binding, and [out] scratch_bytes: memory of the open layers. Either may be NULL. */
RESHARD_API reshard_status_t reshard_reload_get_stats(reshard_reload_t reload, reshard_binding_stats_t* stats,
                                                      int64_t* scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif /* RESHARD_RELOAD_H */
