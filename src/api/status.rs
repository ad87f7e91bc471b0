//! `/api/v1/status/…`: what the server is, how it was started, what it holds.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::params::Params;
use super::state::ApiState;
use super::{json, time};
use crate::model::Timestamp;
use crate::storage::{BlockStats, HeadMemory, Storage};

/// Rows of each table of `status/tsdb` where the client names no limit.
const TSDB_ROWS: usize = 10;

/// The version of Prometheus whose API this is: clients choose their calls by it.
const API_VERSION: &str = "3.14.0";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildInfoDto {
    version: String,
    revision: String,
    branch: String,
    build_user: String,
    build_date: String,
    go_version: String,
}

pub(super) async fn buildinfo(State(state): State<Arc<ApiState>>) -> Response {
    let info = &state.info;
    json::success(&BuildInfoDto {
        version: format!("{API_VERSION}+streamgate-{}", info.version),
        revision: info.revision.clone(),
        branch: info.branch.clone(),
        build_user: info.build_user.clone(),
        build_date: info.build_date.clone(),
        go_version: info.rustc_version.clone(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfoDto {
    start_time: String,
    #[serde(rename = "CWD")]
    cwd: String,
    hostname: String,
    server_time: String,
    reload_config_success: bool,
    last_config_time: String,
    /// Pieces of the WAL and of blocks that were found damaged since the start.
    corruption_count: u64,
    storage_retention: String,
    #[serde(rename = "GOMAXPROCS")]
    threads: usize,
}

pub(super) async fn runtimeinfo(State(state): State<Arc<ApiState>>) -> Response {
    let live = state.live.borrow().clone();
    json::success(&RuntimeInfoDto {
        start_time: time::rfc3339(state.info.started_at),
        cwd: state.info.working_directory.clone(),
        hostname: state.info.hostname.clone(),
        server_time: time::rfc3339(state.clock.now_ms()),
        reload_config_success: live.failed_at.is_none(),
        last_config_time: time::rfc3339(live.loaded_at),
        corruption_count: state.storage.stats().damaged,
        storage_retention: state.info.storage_retention.clone(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

pub(super) async fn flags(State(state): State<Arc<ApiState>>) -> Response {
    json::success(&state.info.flags)
}

#[derive(Serialize)]
struct NotificationDto {
    text: &'static str,
    date: String,
    active: bool,
}

/// What an operator should know of now: that the last reload failed, in Prometheus's words.
pub(super) async fn notifications(State(state): State<Arc<ApiState>>) -> Response {
    let failed = state.live.borrow().failed_at;
    let notification = |at: Timestamp| NotificationDto {
        text: "Configuration reload has failed.",
        date: time::rfc3339(at),
        active: true,
    };
    json::success(&failed.into_iter().map(notification).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct ConfigDto {
    yaml: String,
}

pub(super) async fn config(State(state): State<Arc<ApiState>>) -> Response {
    let yaml = state.live.borrow().yaml.clone();
    json::success(&ConfigDto { yaml })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TsdbDto {
    head_stats: HeadStatsDto,
    series_count_by_metric_name: Vec<CountDto>,
    label_value_count_by_label_name: Vec<CountDto>,
    memory_in_bytes_by_label_name: Vec<CountDto>,
    series_count_by_label_value_pair: Vec<CountDto>,
    storage: StorageDto,
}

/// Ours, beside what Prometheus has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageDto {
    wal_bytes: u64,
    wal_segments: u64,
    blocks: u64,
    block_bytes: u64,
    memory_bytes: u64,
    /// 0: no bound.
    memory_limit_bytes: u64,
    /// Since the start.
    damaged_pieces: u64,
    damaged_bytes: u64,
    /// Pieces that do not say how many samples they held: at least `lost_samples` are lost then.
    damaged_pieces_uncounted: u64,
    lost_samples: u64,
    /// Why samples are refused at the moment.
    refusing: Option<String>,
    head_memory: HeadMemoryDto,
}

/// Bytes of memory by part, about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadMemoryDto {
    table: u64,
    lists: u64,
    texts: u64,
    postings: u64,
    slots: u64,
    open_chunks: u64,
    full_chunks: u64,
    pages: u64,
}

impl From<HeadMemory> for HeadMemoryDto {
    fn from(m: HeadMemory) -> Self {
        HeadMemoryDto {
            table: m.table,
            lists: m.lists,
            texts: m.texts,
            postings: m.postings,
            slots: m.slots,
            open_chunks: m.open_chunks,
            full_chunks: m.full_chunks,
            pages: m.pages,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStatsDto {
    num_series: u64,
    num_label_pairs: u64,
    chunk_count: u64,
    /// The largest possible time if nothing is stored, as in Prometheus.
    min_time: Timestamp,
    max_time: Timestamp,
}

#[derive(Serialize)]
struct CountDto {
    name: String,
    value: u64,
}

pub(super) async fn walreplay(State(state): State<Arc<ApiState>>) -> Response {
    super::starting::replay_status(&state.replay)
}

pub(super) async fn tsdb(State(state): State<Arc<ApiState>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.limit_opt("limit")? {
        Some(0) => return Err(ApiError::parameter("limit", "limit must be a positive number")),
        limit => limit.unwrap_or(TSDB_ROWS),
    };
    state.queries.clone().run(move |_| Ok(json::success(&describe(&state.storage, limit)))).await
}

fn describe(storage: &Storage, limit: usize) -> TsdbDto {
    let stats = storage.stats();
    let cardinality = storage.cardinality(limit);
    let rows =
        |list: Vec<(String, u64)>| list.into_iter().map(|(name, value)| CountDto { name, value }).collect();
    TsdbDto {
        head_stats: HeadStatsDto {
            num_series: stats.series,
            num_label_pairs: stats.label_pairs,
            chunk_count: stats.head_chunks,
            min_time: stats.head_min_ts.unwrap_or(Timestamp::MAX),
            max_time: stats.max_ts.filter(|_| stats.head_min_ts.is_some()).unwrap_or(Timestamp::MIN),
        },
        series_count_by_metric_name: rows(cardinality.series_by_metric),
        label_value_count_by_label_name: rows(cardinality.values_by_label),
        memory_in_bytes_by_label_name: rows(cardinality.bytes_by_label),
        series_count_by_label_value_pair: rows(cardinality.series_by_pair),
        storage: StorageDto {
            wal_bytes: stats.wal_bytes,
            wal_segments: stats.wal_segments,
            blocks: stats.blocks,
            block_bytes: stats.block_bytes,
            memory_bytes: stats.memory_bytes,
            memory_limit_bytes: stats.memory_limit_bytes,
            damaged_pieces: stats.damaged,
            damaged_bytes: stats.damaged_bytes,
            damaged_pieces_uncounted: stats.damaged_uncounted,
            lost_samples: stats.lost_samples,
            refusing: storage.refusing(),
            head_memory: storage.head_memory().into(),
        },
    }
}

#[derive(Serialize)]
struct BlocksDto {
    blocks: Vec<BlockDto>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockDto {
    ulid: String,
    min_time: Timestamp,
    /// Exclusive, as in Prometheus.
    max_time: Timestamp,
    stats: BlockStatsDto,
    compaction: CompactionDto,
    version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockStatsDto {
    num_samples: u64,
    num_series: u64,
    num_chunks: u64,
    /// Series with deleted samples that are not cleaned yet; Prometheus counts intervals.
    #[serde(skip_serializing_if = "is_zero")]
    num_tombstones: u64,
    num_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Blocks here are sealed once; none is made of others.
#[derive(Serialize)]
struct CompactionDto {
    level: u32,
    sources: [String; 1],
}

/// The blocks, ascending in time.
pub(super) async fn tsdb_blocks(State(state): State<Arc<ApiState>>) -> Response {
    let block = |b: BlockStats| {
        let ulid = ulid(b.range.1, (u128::from(b.identity) << 48) | (b.range.0 as u128 & 0xffff_ffff_ffff));
        BlockDto {
            min_time: if b.samples == 0 { b.range.0 } else { b.ts.0 },
            max_time: if b.samples == 0 { b.range.1 } else { b.ts.1.saturating_add(1) },
            stats: BlockStatsDto {
                num_samples: b.samples,
                num_series: b.series,
                num_chunks: b.chunks,
                num_tombstones: b.deleted_series,
                num_bytes: b.bytes,
            },
            compaction: CompactionDto { level: 1, sources: [ulid.clone()] },
            ulid,
            version: 1,
        }
    };
    json::success(&BlocksDto { blocks: state.storage.block_stats().into_iter().map(block).collect() })
}

/// A time and 80 bits in Crockford's base 32, as Prometheus names blocks.
fn ulid(ts: Timestamp, rest: u128) -> String {
    let bits = (ts.max(0) as u128 & 0xffff_ffff_ffff) << 80 | rest & ((1 << 80) - 1);
    let digit =
        |i: u32| char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(bits >> (125 - 5 * i) & 31) as usize]);
    (0..26).map(digit).collect()
}
