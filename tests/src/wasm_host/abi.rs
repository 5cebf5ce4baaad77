//! The host's side of proxy-wasm ABI 0.2.1, and as much of WASI as a filter gets to see.

use super::{Header, LocalReply, World, signature};
use anyhow::{Result, ensure};
use wasmi::{Caller, Error, Extern, ExternType, Linker, Memory, Module, Val};

// `proxy_status_t`.
const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;
const INTERNAL_FAILURE: u32 = 10;

const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const LOG_LEVEL_INFO: u32 = 2;

/// Gives the module everything it imports. What this host does not have fails as it does in Envoy
/// where a capability is withheld, and is counted all the same.
pub(super) fn define(linker: &mut Linker<World>, module: &Module) -> Result<()> {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name().to_owned());
        ensure!(matches!(from, "env" | "wasi_snapshot_preview1"), "an import from {from}");
        let ExternType::Func(function) = import.ty() else { continue };
        linker.func_new(from, import.name(), function.clone(), move |caller, given, results| {
            let mut guest = Guest::new(caller)?;
            *guest.world().calls.entry(name.clone()).or_default() += 1;
            let arguments: Vec<u32> = given.iter().map(argument).collect();
            let withheld = guest.world().withheld == Some(&*name);
            let status = if withheld { INTERNAL_FAILURE } else { guest.answer(&name, &arguments)? };
            results.iter_mut().for_each(|result| *result = Val::I32(status.cast_signed()));
            Ok(())
        })?;
    }
    Ok(())
}

/// 64-bit arguments are offsets of metrics, of which the low half says enough.
fn argument(value: &Val) -> u32 {
    match value {
        Val::I32(value) => value.cast_unsigned(),
        Val::I64(value) => *value as u32,
        _ => 0,
    }
}

/// The module in the middle of a call to the host.
struct Guest<'a> {
    caller: Caller<'a, World>,
    memory: Memory,
}

impl<'a> Guest<'a> {
    fn new(caller: Caller<'a, World>) -> Result<Self, Error> {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| Error::new("no memory"))?;
        Ok(Self { caller, memory })
    }

    fn world(&mut self) -> &mut World {
        self.caller.data_mut()
    }

    fn bytes(&self, at: u32, length: u32) -> Result<Vec<u8>, Error> {
        let range = at as usize..at as usize + length as usize;
        let bytes = self.memory.data(&self.caller).get(range);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::new("a pointer out of memory"))
    }

    fn text(&self, at: u32, length: u32) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes(at, length)?).into_owned())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Error> {
        let written = self.memory.write(&mut self.caller, at as usize, bytes);
        written.map_err(|_| Error::new("a pointer out of memory"))
    }

    /// Hands bytes over in memory that the module allocates; where it goes and how long it is are
    /// written to the two places given.
    fn give(&mut self, bytes: &[u8], at: u32, length: u32) -> Result<u32, Error> {
        let size = bytes.len() as u32;
        let mut address = 0;
        if size > 0 {
            let allocate = self.caller.get_export("proxy_on_memory_allocate");
            let allocate = allocate.and_then(Extern::into_func);
            let allocate = allocate.ok_or_else(|| Error::new("no allocator"))?;
            let allocate = allocate.typed::<u32, u32>(&self.caller)?;
            address = allocate.call(&mut self.caller, size)?;
            self.write(address, bytes)?;
        }
        self.write(at, &address.to_le_bytes())?;
        self.write(length, &size.to_le_bytes())?;
        Ok(OK)
    }

    fn answer(&mut self, function: &str, arguments: &[u32]) -> Result<u32, Error> {
        match (function, arguments) {
            ("proxy_log", &[_, at, length]) => {
                let line = self.text(at, length)?;
                self.world().log.push(line);
                Ok(OK)
            }
            ("proxy_get_log_level", &[at]) => self.write(at, &LOG_LEVEL_INFO.to_le_bytes()).map(|()| OK),
            ("proxy_get_current_time_nanoseconds", &[at]) => {
                let time = self.world().unix_seconds * 1_000_000_000;
                self.write(at, &time.to_le_bytes()).map(|()| OK)
            }
            ("proxy_get_buffer_bytes", &[PLUGIN_CONFIGURATION, start, most, at, length]) => {
                let bytes: Vec<u8> = self.world().configuration.clone();
                let part = bytes.iter().skip(start as usize).take(most as usize);
                self.give(&part.copied().collect::<Vec<_>>(), at, length)
            }
            ("proxy_get_header_map_pairs", &[REQUEST_HEADERS, at, length]) => {
                let world = self.world();
                let map = world.map.clone().unwrap_or_else(|| serialise(&world.headers));
                self.give(&map, at, length)
            }
            ("proxy_get_header_map_pairs", &[REQUEST_TRAILERS, at, length]) => {
                let map = serialise(&self.world().trailers);
                self.give(&map, at, length)
            }
            ("proxy_get_header_map_value", &[REQUEST_HEADERS, name, size, at, length]) => {
                let name = self.bytes(name, size)?;
                let found = self.world().headers.iter().find(|(key, _)| *key == name);
                match found.map(|(_, value)| value.clone()) {
                    Some(value) => self.give(&value, at, length),
                    None => Ok(NOT_FOUND),
                }
            }
            ("proxy_add_header_map_value", &[REQUEST_HEADERS, name, size, value, length]) => {
                let header = (self.bytes(name, size)?, self.bytes(value, length)?);
                self.world().headers.push(header);
                Ok(OK)
            }
            ("proxy_replace_header_map_value", &[REQUEST_HEADERS, name, size, value, length]) => {
                let header = (self.bytes(name, size)?, self.bytes(value, length)?);
                self.world().headers.retain(|(key, _)| *key != header.0);
                self.world().headers.push(header);
                Ok(OK)
            }
            ("proxy_remove_header_map_value", &[REQUEST_HEADERS, name, size]) => {
                let name = self.bytes(name, size)?;
                self.world().headers.retain(|(key, _)| *key != name);
                Ok(OK)
            }
            ("proxy_remove_header_map_value", &[REQUEST_TRAILERS, name, size]) => {
                let name = self.bytes(name, size)?;
                self.world().trailers.retain(|(key, _)| *key != name);
                Ok(OK)
            }
            ("proxy_set_property", &[name, size, value, length]) => {
                let (name, value) = (self.text(name, size)?, self.bytes(value, length)?);
                self.world().properties.insert(name, value);
                Ok(OK)
            }
            ("proxy_get_property", &[name, size, at, length]) => {
                let name = self.text(name, size)?;
                match self.world().properties.get(&name).cloned() {
                    Some(value) => self.give(&value, at, length),
                    None => Ok(NOT_FOUND),
                }
            }
            ("proxy_send_local_response", arguments) => self.reply(arguments),
            ("proxy_call_foreign_function", &[name, size, argument, length, at, result]) => {
                let (name, argument) = (self.text(name, size)?, self.bytes(argument, length)?);
                match &*name {
                    "verify_signature" if self.world().host_verifies => match signature::verify(&argument) {
                        Some(result_message) => self.give(&result_message, at, result),
                        None => Ok(BAD_ARGUMENT),
                    },
                    "set_envoy_filter_state" => Ok(self.set_state(&argument)),
                    _ => Ok(NOT_FOUND),
                }
            }
            ("proxy_define_metric", &[_, name, size, at]) => {
                let name = self.text(name, size)?;
                let id = self.world().metrics.len() as u32;
                self.world().metrics.push((name, 0));
                self.write(at, &id.to_le_bytes()).map(|()| OK)
            }
            ("proxy_increment_metric", &[id, by]) => Ok(self.metric(id, |value| value + u64::from(by))),
            ("proxy_record_metric", &[id, value]) => Ok(self.metric(id, |_| value.into())),
            ("proxy_get_shared_data", &[key, size, at, length, version]) => {
                let key = self.text(key, size)?;
                let Some((value, known)) = self.world().shared.get(&key).cloned() else {
                    return Ok(NOT_FOUND);
                };
                self.write(version, &known.to_le_bytes())?;
                self.give(&value, at, length)
            }
            ("proxy_set_shared_data", &[key, size, value, length, version]) => {
                let (key, value) = (self.text(key, size)?, self.bytes(value, length)?);
                let known = self.world().shared.get(&key).map_or(0, |(_, known)| *known);
                if version != 0 && version != known {
                    return Ok(CAS_MISMATCH);
                }
                self.world().shared.insert(key, (value, known + 1));
                Ok(OK)
            }
            ("random_get", &[at, length]) => self.write(at, &vec![7; length as usize]).map(|()| 0),
            ("environ_sizes_get" | "args_sizes_get", &[count, size]) => {
                self.write(count, &[0; 4])?;
                self.write(size, &[0; 4]).map(|()| 0)
            }
            ("environ_get" | "args_get", _) => Ok(0),
            ("fd_write", &[_, vectors, count, written]) => self.print(vectors, count, written),
            ("proc_exit", &[code]) => Err(Error::i32_exit(code.cast_signed())),
            _ => Ok(INTERNAL_FAILURE),
        }
    }

    fn reply(&mut self, arguments: &[u32]) -> Result<u32, Error> {
        let &[status, details, details_size, body, body_size, headers, headers_size, grpc_status] = arguments
        else {
            return Ok(BAD_ARGUMENT);
        };
        let Some(headers) = deserialise(&self.bytes(headers, headers_size)?) else {
            return Ok(BAD_ARGUMENT);
        };
        let (details, body) = (self.text(details, details_size)?, self.bytes(body, body_size)?);
        let grpc_status = grpc_status.cast_signed();
        self.world().reply = Some(LocalReply { status, details, headers, body, grpc_status });
        Ok(OK)
    }

    /// `SetEnvoyFilterStateArguments`: path 1, value 2. Envoy keeps it beside the module's properties, under a
    /// name that has no `wasm.` before it.
    fn set_state(&mut self, argument: &[u8]) -> u32 {
        let Some([path, value, ..]) = signature::fields(argument) else { return BAD_ARGUMENT };
        let path = String::from_utf8_lossy(path).into_owned();
        self.world().properties.insert(path, value.to_vec());
        OK
    }

    fn metric(&mut self, id: u32, change: impl FnOnce(u64) -> u64) -> u32 {
        match self.world().metrics.get_mut(id as usize) {
            Some((_, value)) => {
                *value = change(*value);
                OK
            }
            None => BAD_ARGUMENT,
        }
    }

    /// What a panic says before the module traps.
    fn print(&mut self, vectors: u32, count: u32, written: u32) -> Result<u32, Error> {
        let mut total = 0;
        for index in 0..count {
            let vector = self.bytes(vectors + index * 8, 8)?;
            let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| vector[at + byte]));
            let line = self.text(number(0), number(4))?;
            total += number(4);
            self.world().log.push(line);
        }
        self.write(written, &total.to_le_bytes()).map(|()| 0)
    }
}

/// A header map as the ABI has it: a count, the lengths, then names and values, each with a NUL.
#[must_use]
pub fn serialise(headers: &[Header]) -> Vec<u8> {
    let mut bytes = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        for part in [name, value] {
            bytes.extend(part);
            bytes.push(0);
        }
    }
    bytes
}

fn deserialise(bytes: &[u8]) -> Option<Vec<Header>> {
    let (mut rest, mut lengths) = (bytes, Vec::new());
    let number = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u32::from_le_bytes(*number) as usize)
    };
    if rest.is_empty() {
        return Some(Vec::new());
    }
    for _ in 0..number(&mut rest)? {
        lengths.push((number(&mut rest)?, number(&mut rest)?));
    }
    let mut part = |length: usize| {
        let (part, after) = rest.split_at_checked(length)?;
        rest = after.strip_prefix(b"\0")?;
        Some(part.to_vec())
    };
    let headers: Option<Vec<Header>> =
        lengths.into_iter().map(|(name, value)| Some((part(name)?, part(value)?))).collect();
    headers.filter(|_| rest.is_empty())
}
