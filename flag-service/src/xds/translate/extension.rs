//! The filter: which module runs, what it may call, and the policy it decides by. This is the only
//! resource that a change of flags, modules or keys touches.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, DataSource, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{
    CapabilityRestrictionConfig, FailurePolicy, PluginConfig, ReloadConfig, SanitizationConfig, VmConfig,
    plugin_config,
};
use envoy_types::pb::google::protobuf::{Any, Duration, StringValue};
use rampart_engine::policy::wire::Policy;

use super::{DataPlane, NAME, pack, pack_with_entries};

/// What the module may call, and which of its callbacks Envoy makes. A call that is not listed
/// fails, and a callback that is not listed is skipped: bodies, responses and the payload of
/// WebSockets never enter the VM.
pub const CAPABILITIES: &[&str] = &[
    // Callbacks.
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_delete",
    // Host calls.
    "proxy_log",
    "proxy_get_log_level",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_send_local_response",
    "proxy_call_foreign_function",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    // What Rust's standard library asks of its system.
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
];

pub(super) fn extension(policy: &Policy, data_plane: &DataPlane) -> Any {
    let code = DataSource {
        specifier: Some(data_source::Specifier::Filename(data_plane.filter.clone())),
        ..DataSource::default()
    };
    let filter = with_vm(
        VmConfig {
            vm_id: data_plane.vm_id.clone(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(code)) }),
            ..VmConfig::default()
        },
        PluginConfig {
            name: NAME.to_owned(),
            root_id: NAME.to_owned(),
            // A VM that trapped is started again; until then its requests get 503, never a pass.
            failure_policy: FailurePolicy::FailReload.into(),
            reload_config: Some(ReloadConfig {
                backoff: Some(BackoffStrategy { base_interval: Some(RELOAD_AFTER), max_interval: None }),
            }),
            configuration: Some(pack(&StringValue { value: json(policy) })),
            ..PluginConfig::default()
        },
    );
    let capabilities = CAPABILITIES.iter().map(|name| {
        let allowed = CapabilityRestrictionConfig {
            allowed_capabilities: HashMap::from([((*name).to_owned(), SanitizationConfig {})]),
        };
        let vm = VmConfig { capability_restriction_config: Some(allowed), ..VmConfig::default() };
        with_vm(vm, PluginConfig::default())
    });
    pack(&TypedExtensionConfig {
        name: NAME.to_owned(),
        typed_config: Some(pack_with_entries(&filter, capabilities)),
    })
}

/// Shorter than Envoy's default of a second: while it lasts, that worker answers 503.
const RELOAD_AFTER: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// The policy as the filter reads it. No policy has a value that JSON cannot write (its maps have
/// text keys, its numbers are integers); should one ever, the filter refuses the empty document and
/// Envoy keeps the last good one.
fn json(policy: &Policy) -> String {
    serde_json::to_string(policy).unwrap_or_default()
}

fn with_vm(vm: VmConfig, plugin: PluginConfig) -> Wasm {
    Wasm { config: Some(PluginConfig { vm: Some(plugin_config::Vm::VmConfig(vm)), ..plugin }) }
}
