//! The responses as they are written. A resource is the same bytes for every stream, so it is
//! encoded once and shared: on the wire, a message within a message is bytes with a length.

use bytes::Bytes;

/// `envoy.service.discovery.v3.DiscoveryResponse`, with its resources encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    /// Each a `google.protobuf.Any`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`, with its resources encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeltaDiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) removed_resources: Vec<String>,
}

/// `envoy.service.discovery.v3.Resource`, with its body encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// A `google.protobuf.Any`; empty means that there is none.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) resource: Bytes,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as envoy;
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message as _;

    use super::super::testing::resource;
    use super::*;

    /// Each field has a value of its own, so that two that changed places would be seen.
    #[test]
    fn clients_read_what_was_meant() {
        let body = resource("x").body;
        let any = Any::decode(body.clone()).unwrap();
        let [version, type_url, nonce] = ["v", "t", "n"].map(str::to_owned);
        let response = DiscoveryResponse {
            version_info: version.clone(),
            resources: vec![body.clone(), body.clone()],
            type_url: type_url.clone(),
            nonce: nonce.clone(),
        };
        let read = envoy::DiscoveryResponse {
            version_info: version.clone(),
            resources: vec![any.clone(), any.clone()],
            type_url: type_url.clone(),
            nonce: nonce.clone(),
            ..envoy::DiscoveryResponse::default()
        };
        assert_eq!(envoy::DiscoveryResponse::decode(response.encode_to_vec().as_slice()), Ok(read));

        let (name, removed) = ("r".to_owned(), vec!["gone".to_owned()]);
        let response = DeltaDiscoveryResponse {
            system_version_info: version.clone(),
            resources: vec![Resource { version: "rv".into(), resource: body, name: name.clone() }],
            type_url: type_url.clone(),
            nonce: nonce.clone(),
            removed_resources: removed.clone(),
        };
        let resource =
            envoy::Resource { name, version: "rv".into(), resource: Some(any), ..envoy::Resource::default() };
        let read = envoy::DeltaDiscoveryResponse {
            system_version_info: version,
            resources: vec![resource],
            type_url,
            nonce,
            removed_resources: removed,
            ..envoy::DeltaDiscoveryResponse::default()
        };
        assert_eq!(envoy::DeltaDiscoveryResponse::decode(response.encode_to_vec().as_slice()), Ok(read));
    }
}
