//! A client of delta xDS that holds what it is sent, as an Envoy would, and does nothing with it: for
//! counting what is sent.

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use prost::Message as _;
use rampart::xds::snapshot::Kind;
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client holds: by type, names and versions.
pub type Held = HashMap<Kind, HashMap<String, String>>;

/// One delta stream on a connection of its own.
#[derive(Debug)]
pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// What it holds.
    pub held: Held,
    /// Of resources received.
    pub bytes: usize,
    _channel: Channel,
}

impl Stream {
    /// Opens a stream and asks for everything, as a node that holds this; returns when it has it.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or does not answer in time.
    pub async fn open(server: SocketAddr, node: &str, held: Held) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{server}"))?.connect().await?;
        let (requests, receiver) = mpsc::channel(64);
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::new();
        let asked = Request::new(ReceiverStream::new(receiver));
        let node = Node { id: node.to_owned(), ..Node::default() };
        requests.send(DeltaDiscoveryRequest { node: Some(node), ..first(Kind::Cluster, &held, &[]) }).await?;
        let responses = grpc.streaming(asked, METHOD.parse()?, codec).await?.into_inner();
        let mut this = Self { requests, responses, held, bytes: 0, _channel: channel };
        let resumes = !this.held.is_empty();
        if !resumes {
            this.next().await?;
        }
        let clusters: Vec<String> =
            this.held.get(&Kind::Cluster).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let filter = ["rampart".to_owned()];
        for (kind, names) in [
            (Kind::Endpoints, clusters.as_slice()),
            (Kind::Listener, &[][..]),
            (Kind::Route, &filter[..]),
            (Kind::Extension, &filter[..]),
        ] {
            this.requests.send(first(kind, &this.held, names)).await?;
            if !resumes {
                this.next().await?;
            }
        }
        // What is not there is answered at once, and after everything else.
        this.requests.send(first(Kind::Secret, &this.held, &["none".to_owned()])).await?;
        while this.next().await? != Kind::Secret {}
        Ok(this)
    }

    /// The next response, acknowledged.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn next(&mut self) -> Result<Kind> {
        let response = timeout(PATIENCE, self.responses.message()).await.context("a response")??;
        let DeltaDiscoveryResponse { type_url, nonce, resources, .. } = response.context("an open stream")?;
        let kind = Kind::from_type_url(&type_url).context(type_url.clone())?;
        for resource in resources {
            self.bytes += resource.encoded_len();
            self.held.entry(kind).or_default().insert(resource.name, resource.version);
        }
        let ack =
            DeltaDiscoveryRequest { type_url, response_nonce: nonce, ..DeltaDiscoveryRequest::default() };
        self.requests.send(ack).await?;
        Ok(kind)
    }
}

fn first(kind: Kind, held: &Held, names: &[String]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names.to_vec(),
        initial_resource_versions: held.get(&kind).cloned().unwrap_or_default(),
        ..DeltaDiscoveryRequest::default()
    }
}
