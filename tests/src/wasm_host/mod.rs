//! A proxy-wasm host without Envoy: it runs the built filter in an interpreter, in this process, and
//! keeps account of every call the filter makes and every instruction it executes. What a request
//! costs can so be stated in counts, which are the same on every machine and on every day.
//!
//! It does what Envoy does as far as a filter can see, for the phase of request headers. Whether
//! Envoy does the same is for the system tests to say.

mod abi;
mod signature;

pub use abi::serialise;

use anyhow::{Context as _, Result, anyhow};
use std::{collections::BTreeMap, fs, mem, path::Path};
use wasmi::{CompilationMode, Config, Engine, Instance, Linker, Module, Store, WasmParams, WasmResults};

/// More than any callback can use, so that it never runs out.
const FUEL: u64 = 1 << 60;

/// A filter, its VM, and what the VM sees of the world.
pub struct WasmHost {
    store: Store<World>,
    instance: Instance,
    /// The context of the configuration in force.
    root: u32,
    contexts: u32,
}

/// A header's name and value; bytes, since clients may send any.
pub type Header = (Vec<u8>, Vec<u8>);

/// What the filter can ask the host for, and what it has told the host.
#[derive(Debug)]
struct World {
    unix_seconds: u64,
    host_verifies: bool,
    /// A function that fails, as where Envoy withholds the capability.
    withheld: Option<&'static str>,
    configuration: Vec<u8>,
    headers: Vec<Header>,
    /// What the filter gets to read in place of the headers.
    map: Option<Vec<u8>>,
    trailers: Vec<Header>,
    properties: BTreeMap<String, Vec<u8>>,
    reply: Option<LocalReply>,
    metrics: Vec<(String, u64)>,
    /// What the VMs of one Envoy share, with the version of each value.
    shared: BTreeMap<String, (Vec<u8>, u32)>,
    log: Vec<String>,
    calls: BTreeMap<String, usize>,
}

/// An answer that the filter gave in the upstream's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The status code.
    pub status: u32,
    /// What the access log calls `RESPONSE_CODE_DETAILS`.
    pub details: String,
    /// The headers to add.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
    /// What a gRPC client is told, if it is.
    pub grpc_status: i32,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whether the request goes on to the next filter.
    pub continues: bool,
    /// The request's headers afterwards.
    pub headers: Vec<Header>,
    /// What the filter has set; Envoy keeps it as filter state `wasm.{name}`, and what the load balancer
    /// hashes as `envoy.hashable_string`.
    pub properties: BTreeMap<String, Vec<u8>>,
    /// What the filter has answered itself.
    pub reply: Option<LocalReply>,
    /// How often each of the host's functions was called, from the request's context being made to
    /// its being dropped.
    pub calls: BTreeMap<String, usize>,
    /// The instructions executed, in the interpreter's units.
    pub instructions: u64,
}

impl Outcome {
    /// How often one function was called.
    #[must_use]
    pub fn calls_of(&self, function: &str) -> usize {
        self.calls.get(function).copied().unwrap_or_default()
    }

    /// The first value of a header, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name.as_bytes())?;
        str::from_utf8(value).ok()
    }

    /// What the filter has set under a name, as text.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.properties.get(name)?).ok()
    }
}

impl WasmHost {
    /// Loads and starts a module.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no proxy-wasm module.
    pub fn load(module: &Path) -> Result<Self> {
        let bytes = fs::read(module).with_context(|| module.display().to_string())?;
        let mut config = Config::default();
        // Compiled at first use, a function's first call would count for more than its second.
        config.consume_fuel(true).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, bytes)?;
        let world = World {
            unix_seconds: 0,
            host_verifies: true,
            withheld: None,
            configuration: Vec::new(),
            headers: Vec::new(),
            map: None,
            trailers: Vec::new(),
            properties: BTreeMap::new(),
            reply: None,
            metrics: Vec::new(),
            shared: BTreeMap::new(),
            log: Vec::new(),
            calls: BTreeMap::new(),
        };
        let (mut store, mut linker) = (Store::new(&engine, world), Linker::new(&engine));
        store.set_fuel(FUEL)?;
        abi::define(&mut linker, &module)?;
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let mut host = Self { store, instance, root: 0, contexts: 0 };
        host.call::<_, ()>("_initialize", ())?;
        Ok(host)
    }

    /// Sets the clock.
    pub fn set_time(&mut self, unix_seconds: u64) {
        self.store.data_mut().unix_seconds = unix_seconds;
    }

    /// Whether the host offers `verify_signature`, as Envoy does. A filter may find that out once
    /// only, so it is set before the first configuration.
    pub fn offer_verification(&mut self, offered: bool) {
        self.store.data_mut().host_verifies = offered;
    }

    /// Has one of the host's functions fail from now on.
    pub fn withhold(&mut self, function: &'static str) {
        self.store.data_mut().withheld = Some(function);
    }

    /// The instructions executed since the last configuration or request began, in the interpreter's
    /// units.
    ///
    /// # Errors
    ///
    /// When the interpreter does not count.
    pub fn instructions(&self) -> Result<u64> {
        Ok(FUEL - self.store.get_fuel()?)
    }

    /// Configures the filter anew, in the same VM; whether it accepted. What it refuses leaves the
    /// configuration before in force, or a filter that has none.
    ///
    /// # Errors
    ///
    /// When the module traps.
    pub fn configure(&mut self, configuration: &[u8]) -> Result<bool> {
        self.store.data_mut().configuration = configuration.to_vec();
        let size = i32::try_from(configuration.len())?;
        self.contexts += 1;
        let (context, first) = (self.contexts as i32, self.root == 0);
        self.store.set_fuel(FUEL)?;
        self.call::<_, ()>("proxy_on_context_create", (context, 0))?;
        let started = !first || self.call::<_, i32>("proxy_on_vm_start", (context, 0))? != 0;
        let accepted = started && self.call::<_, i32>("proxy_on_configure", (context, size))? != 0;
        if accepted || first {
            self.root = self.contexts;
        }
        Ok(accepted)
    }

    /// Passes one request's headers through the filter, pseudo-headers among them.
    ///
    /// # Errors
    ///
    /// When the module traps, or has not been configured.
    pub fn request<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, headers: &[(N, V)]) -> Result<Outcome> {
        let own = headers.iter().map(|(name, value)| (name.as_ref().to_vec(), value.as_ref().to_vec()));
        self.pass(own.collect(), None)
    }

    /// Passes a request through the filter whose headers read as these bytes: a map as `serialise` makes
    /// them, or one that no host should hand over.
    ///
    /// # Errors
    ///
    /// When the module traps, or has not been configured.
    pub fn request_map(&mut self, map: Vec<u8>) -> Result<Outcome> {
        self.pass(Vec::new(), Some(map))
    }

    /// Passes a request's trailers through the filter: what is left of them, and whether they go on.
    ///
    /// # Errors
    ///
    /// When the module traps, or has not been configured.
    pub fn trailers(&mut self, trailers: &[(&str, &[u8])]) -> Result<(Vec<Header>, bool)> {
        anyhow::ensure!(self.root != 0, "no configuration is in force");
        let own = trailers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        self.store.data_mut().trailers = own.collect();
        self.contexts += 1;
        let context = self.contexts as i32;
        self.store.set_fuel(FUEL)?;
        self.call::<_, ()>("proxy_on_context_create", (context, self.root as i32))?;
        let count = i32::try_from(trailers.len())?;
        let action: i32 = self.call("proxy_on_request_trailers", (context, count))?;
        self.call::<_, ()>("proxy_on_delete", context)?;
        Ok((mem::take(&mut self.store.data_mut().trailers), action == 0))
    }

    fn pass(&mut self, headers: Vec<Header>, map: Option<Vec<u8>>) -> Result<Outcome> {
        anyhow::ensure!(self.root != 0, "no configuration is in force");
        let count = i32::try_from(headers.len())?;
        let world = self.store.data_mut();
        (world.headers, world.map) = (headers, map);
        world.properties.clear();
        world.reply = None;
        world.calls.clear();
        self.contexts += 1;
        let context = self.contexts as i32;
        self.store.set_fuel(FUEL)?;
        self.call::<_, ()>("proxy_on_context_create", (context, self.root as i32))?;
        let action: i32 = self.call("proxy_on_request_headers", (context, count, 1))?;
        // The callbacks that the shipped configuration lets through.
        self.call::<_, ()>("proxy_on_delete", context)?;
        let instructions = self.instructions()?;
        let world = self.store.data_mut();
        Ok(Outcome {
            continues: action == 0,
            headers: mem::take(&mut world.headers),
            properties: mem::take(&mut world.properties),
            reply: world.reply.take(),
            calls: mem::take(&mut world.calls),
            instructions,
        })
    }

    /// What the filter has logged.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.store.data().log
    }

    /// The metrics that the filter has defined, with their values.
    #[must_use]
    pub fn metrics(&self) -> &[(String, u64)] {
        &self.store.data().metrics
    }

    /// The VM's memory in bytes, which never shrinks.
    ///
    /// # Errors
    ///
    /// When the module exports none.
    pub fn memory(&self) -> Result<usize> {
        let memory = self.instance.get_memory(&self.store, "memory").context("no memory")?;
        Ok(memory.data_size(&self.store))
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Result<R> {
        let function = self.instance.get_typed_func::<P, R>(&self.store, name);
        let function = function.map_err(|error| anyhow!("{name}: {error}"))?;
        function.call(&mut self.store, parameters).map_err(|error| {
            let log = self.store.data().log.join("\n");
            anyhow!("{name} trapped: {error}\n{log}")
        })
    }
}
