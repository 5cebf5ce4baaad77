//! What is spoken with an upstream, and how it is encrypted.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{
    DataSource, Http1ProtocolOptions, Http2ProtocolOptions, TransportSocket, data_source, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate,
    UpstreamTlsContext, common_tls_context,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::{headers, pack};
use crate::model::upstream::{ClientCertificate, Protocol, Tls, TrafficPolicy};

/// What Envoy is told of the protocol, where it would not speak that one by itself.
pub(super) fn protocol(policy: &TrafficPolicy) -> HashMap<String, Any> {
    let (http1, http2) = (Http1ProtocolOptions::default(), Http2ProtocolOptions::default());
    let http_filters = headers::filters(&policy.request_headers, &policy.response_headers);
    let spoken = match policy.protocol {
        Protocol::Http1 if http_filters.is_empty() => return HashMap::new(),
        Protocol::Http1 => UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(http1)),
        }),
        Protocol::Http2 => UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
        }),
        Protocol::Auto => UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http_protocol_options: Some(http1),
            http2_protocol_options: Some(http2),
            ..AutoHttpConfig::default()
        }),
    };
    let upstream_protocol_options = Some(spoken);
    options(&HttpProtocolOptions { upstream_protocol_options, http_filters, ..Default::default() })
}

/// Where a cluster has them.
pub(super) fn options(options: &HttpProtocolOptions) -> HashMap<String, Any> {
    HashMap::from([(HttpProtocolOptions::full_name(), pack(options))])
}

pub(super) fn encrypted(tls: &Tls, protocol: Protocol) -> TransportSocket {
    let server_name = tls.server_name.clone().unwrap_or_default();
    let borne = if tls.subject_alt_names.is_empty() {
        vec![server_name.clone()]
    } else {
        tls.subject_alt_names.clone()
    };
    let authority = match (&tls.ca, &tls.ca_file) {
        (Some(pem), _) => Some(data_source::Specifier::InlineString(pem.clone())),
        (None, file) => file.clone().map(data_source::Specifier::Filename),
    };
    let validation = CertificateValidationContext {
        trusted_ca: authority
            .map(|authority| DataSource { specifier: Some(authority), ..DataSource::default() }),
        match_typed_subject_alt_names: borne.into_iter().map(bears).collect(),
        ..CertificateValidationContext::default()
    };
    let common = CommonTlsContext {
        tls_certificates: tls.certificate.iter().map(shown).collect(),
        // Agreed on from its own list, where there is a choice.
        alpn_protocols: if protocol == Protocol::Http2 { vec!["h2".to_owned()] } else { Vec::new() },
        validation_context_type: Some(common_tls_context::ValidationContextType::ValidationContext(
            validation,
        )),
        ..CommonTlsContext::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: server_name,
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(&context))),
    }
}

/// A URI, as SPIFFE has it, or a DNS name: a certificate keeps them apart.
fn bears(name: String) -> SubjectAltNameMatcher {
    let san_type = if name.contains("://") { SanType::Uri } else { SanType::Dns };
    let exact = string_matcher::MatchPattern::Exact(name);
    SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(StringMatcher { match_pattern: Some(exact), ..StringMatcher::default() }),
        ..SubjectAltNameMatcher::default()
    }
}

fn shown(certificate: &ClientCertificate) -> TlsCertificate {
    let file = |path: &String| {
        let specifier = Some(data_source::Specifier::Filename(path.clone()));
        Some(DataSource { specifier, ..DataSource::default() })
    };
    TlsCertificate {
        certificate_chain: file(&certificate.chain_file),
        private_key: file(&certificate.key_file),
        ..TlsCertificate::default()
    }
}
