//! Calls METHOD of SERVICE, found by xDS, once for each line that it reads; writes who answered.
//! For the system test of the xDS server: tonic-xds as an application uses it.

use std::{env, error::Error, time::Duration};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_xds::{XdsChannelBuilder, XdsChannelConfig, XdsChannelGrpc, XdsUri};

/// A message whose only field is a text.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    value: String,
}

type Failure = Box<dyn Error + Send + Sync>;

async fn call(grpc: &mut Grpc<XdsChannelGrpc>, method: &str) -> Result<String, Failure> {
    grpc.ready().await?;
    let codec = ProstCodec::<Text, Text>::new();
    Ok(grpc.unary(Request::new(Text::default()), method.parse()?, codec).await?.into_inner().value)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let [service, method] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "SERVICE METHOD")?;
    let config = XdsChannelConfig::new(XdsUri::parse(&format!("xds:///{service}"))?).with_bootstrap_from_env()?;
    let mut grpc = Grpc::new(XdsChannelBuilder::new(config).build_grpc_channel()?);
    let mut lines = BufReader::new(stdin()).lines();
    while lines.next_line().await?.is_some() {
        let answered = tokio::time::timeout(Duration::from_secs(15), call(&mut grpc, &method)).await;
        match answered.map_err(Failure::from).flatten() {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error: {error}"),
        }
    }
    Ok(())
}
