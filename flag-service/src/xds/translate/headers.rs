//! Headers that a module's endpoints or its callers see other than they were sent: filters of the cluster, so
//! that whoever else serves knows nothing of them, and who changes nothing pays nothing.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as filter;
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use super::listener::http_filter;
use super::pack;
use crate::model::upstream::Headers;

/// The cluster's filters; none where nothing is changed. The last of them sends the request.
pub(super) fn filters(request: &Headers, response: &Headers) -> Vec<HttpFilter> {
    if request.is_empty() && response.is_empty() {
        return Vec::new();
    }
    let mutations = filter::Mutations {
        request_mutations: mutations(request),
        response_mutations: mutations(response),
        ..filter::Mutations::default()
    };
    let mutation = filter::HeaderMutation { mutations: Some(mutations), ..filter::HeaderMutation::default() };
    vec![
        http_filter("envoy.filters.http.header_mutation", pack(&mutation)),
        http_filter("envoy.filters.http.upstream_codec", pack(&UpstreamCodec::default())),
    ]
}

fn mutations(headers: &Headers) -> Vec<HeaderMutation> {
    let set = headers.set.iter().map(|(key, value)| {
        // Envoy would read `%` as the beginning of a word of its own.
        let header =
            HeaderValue { key: key.clone(), value: value.replace('%', "%%"), ..HeaderValue::default() };
        header_mutation::Action::Append(HeaderValueOption {
            header: Some(header),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        })
    });
    let remove = headers.remove.iter().cloned().map(header_mutation::Action::Remove);
    set.chain(remove).map(|action| HeaderMutation { action: Some(action) }).collect()
}
