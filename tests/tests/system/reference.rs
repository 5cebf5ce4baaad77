//! The API does what its own document says.

use rampart_tests::{
    schemathesis,
    seed::FLAG,
    service::{Service, ServicePorts},
    workdir::system_test,
};

#[test]
fn the_api_is_as_its_document_describes_it() {
    system_test(async |dir| {
        let mut service = Service::new(dir, ServicePorts::free()?);
        service.start().await?;
        // Something to be found, or else nothing but refusals would be looked at.
        service.cli(&["flag", "create", FLAG, "--percentage", "25"]).await?.ok()?;
        schemathesis::test(service.api_address(), &service.local_key()?, dir).await
    });
}
