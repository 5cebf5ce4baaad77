//! The host calls we make, bytes only and without a panic. The SDK's own wrappers insist on UTF-8
//! and on the statuses they know: a header byte above 0x7f, or a new status of the host, would
//! take the whole VM down, and every request of the worker with it.
#![expect(unsafe_code, reason = "the proxy-wasm ABI is made of pointers")]

use std::ptr::{null, null_mut};

/// `proxy_status_t`: 0 is OK. A plain number, because hosts return values that no enum lists.
type Status = u32;
const OK: Status = 0;

const LOG_DEBUG: u32 = 1;
const LOG_ERROR: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> Status;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> Status;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        length: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> Status;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> Status;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> Status;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> Status;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> Status;
    fn proxy_increment_metric(metric: u32, by: i64) -> Status;
    fn proxy_record_metric(metric: u32, value: u64) -> Status;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> Status;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        version: u32,
    ) -> Status;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> Status;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> Status;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, size: usize) -> u32;
}

/// A buffer that the host has filled through our allocator; empty where it had nothing to give.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> Status) -> Vec<u8> {
    let (mut data, mut size) = (null_mut(), 0);
    if call(&raw mut data, &raw mut size) != OK || data.is_null() {
        return Vec::new();
    }
    // SAFETY: the ABI hands over memory of exactly `size` bytes that it got from the exported
    // `proxy_on_memory_allocate`, which leaks a boxed slice of that size.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// Writes an error to Envoy's log, under the wasm logger.
pub(crate) fn log_error(message: &str) {
    log(LOG_ERROR, message);
}

/// Writes a line that only who asks for it sees.
pub(crate) fn log_debug(message: &str) {
    log(LOG_DEBUG, message);
}

fn log(level: u32, message: &str) {
    // SAFETY: pointer and length are of a live string. A log line that is lost is lost.
    unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Seconds since the Unix epoch; none where the host gives no time, since at a time of 0 no token
/// would ever have expired.
pub(crate) fn unix_seconds() -> Option<u64> {
    let mut nanoseconds = 0;
    // SAFETY: the pointer is of a live u64.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    let seconds = nanoseconds / 1_000_000_000;
    (status == OK && seconds > 0).then_some(seconds)
}

/// 128 random bits; none where the host gives none, since under a key that is known anybody can make
/// two tokens of one digest.
pub(crate) fn random_seed() -> Option<[u8; 16]> {
    let mut seed = [0; 16];
    // SAFETY: pointer and length are of a live array. WASI's `errno` 0 is success.
    let errno = unsafe { random_get(seed.as_mut_ptr(), seed.len()) };
    (errno == 0 && seed != [0; 16]).then_some(seed)
}

/// The plugin's configuration.
pub(crate) fn plugin_configuration(size: usize) -> Vec<u8> {
    // SAFETY: `returned` passes pointers to live variables.
    returned(|data, length| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, length) })
}

/// All request headers in the ABI's serialised form.
pub(crate) fn request_headers() -> Vec<u8> {
    pairs(REQUEST_HEADERS)
}

/// All request trailers, likewise.
pub(crate) fn request_trailers() -> Vec<u8> {
    pairs(REQUEST_TRAILERS)
}

fn pairs(map: u32) -> Vec<u8> {
    // SAFETY: `returned` passes pointers to live variables.
    returned(|data, size| unsafe { proxy_get_header_map_pairs(map, data, size) })
}

/// Adds a request header; whether the host took it.
pub(crate) fn add_request_header(name: &str, value: &[u8]) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    let status = unsafe {
        proxy_add_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    status == OK
}

/// Puts a request header in place of every one of this name; whether the host did.
pub(crate) fn replace_request_header(name: &str, value: &[u8]) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    let status = unsafe {
        proxy_replace_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    status == OK
}

/// Removes every request header of this name; whether the host did.
pub(crate) fn remove_request_header(name: &[u8]) -> bool {
    remove(REQUEST_HEADERS, name)
}

/// Removes every request trailer of this name; whether the host did.
pub(crate) fn remove_request_trailer(name: &[u8]) -> bool {
    remove(REQUEST_TRAILERS, name)
}

fn remove(map: u32, name: &[u8]) -> bool {
    // SAFETY: pointer and length are of a live slice.
    unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) == OK }
}

/// Sets filter state `wasm.{name}` for this request; whether the host did.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) == OK }
}

/// Defines a counter; none where the host takes none.
pub(crate) fn define_counter(name: &str) -> Option<u32> {
    define(COUNTER, name)
}

/// Defines a gauge; none where the host takes none.
pub(crate) fn define_gauge(name: &str) -> Option<u32> {
    define(GAUGE, name)
}

fn define(kind: u32, name: &str) -> Option<u32> {
    let mut metric = 0;
    // SAFETY: pointers and length are of a live string and a live u32.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut metric) };
    (status == OK).then_some(metric)
}

/// Adds one to a counter.
pub(crate) fn increment(metric: u32) {
    // SAFETY: no pointers. A count that is lost is lost.
    unsafe { proxy_increment_metric(metric, 1) };
}

/// Sets a gauge.
pub(crate) fn record(metric: u32, value: u64) {
    // SAFETY: no pointers. A value that is lost is lost.
    unsafe { proxy_record_metric(metric, value) };
}

/// What the VMs of all threads share under a key, and its version, which is never 0; none where they share
/// nothing.
pub(crate) fn shared(key: &str) -> Option<(Vec<u8>, u32)> {
    let (mut version, mut status) = (0, OK);
    let value = returned(|data, size| {
        // SAFETY: pointer and length are of a live string; `returned` passes live variables.
        status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut version) };
        status
    });
    (status == OK).then_some((value, version))
}

/// Shares a value in place of the one of this version, or of any where it is 0; whether that was there.
pub(crate) fn share(key: &str, value: &[u8], version: u32) -> bool {
    // SAFETY: pointers and lengths are of live slices.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) };
    status == OK
}

/// Tells Envoy's load balancer what to hash. It needs an object of a kind that Envoy can hash, which
/// other filter state is not; each kind has one name.
pub(crate) fn set_hash_key(key: &str) {
    let argument = message(&[b"envoy.hashable_string", key.as_bytes()]);
    call_foreign_function("set_envoy_filter_state", &argument);
}

/// A protocol-buffers message of byte fields, numbered from 1.
pub(crate) fn message(fields: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|field| field.len() + 6).sum());
    for (number, field) in (1u8..).zip(fields) {
        message.push((number << 3) | 2);
        let mut length = field.len();
        while length > 0x7f {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(*field);
    }
    message
}

/// Answers the request here.
pub(crate) fn send_local_response(status: u16, details: &str, body: &str, headers: &[u8], grpc_status: u32) {
    // SAFETY: pointers and lengths are of live slices. If the host refuses, the request stays
    // paused and times out; it never passes.
    unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status as i32,
        )
    };
}

/// Calls a function that the host offers under a name; none if it does not, or fails.
pub(crate) fn call_foreign_function(name: &str, argument: &[u8]) -> Option<Vec<u8>> {
    let mut status = OK;
    let result = returned(|data, size| {
        let (argument, length) =
            if argument.is_empty() { (null(), 0) } else { (argument.as_ptr(), argument.len()) };
        // SAFETY: pointers and lengths are of live slices; `returned` passes live variables.
        status =
            unsafe { proxy_call_foreign_function(name.as_ptr(), name.len(), argument, length, data, size) };
        status
    });
    (status == OK).then_some(result)
}
