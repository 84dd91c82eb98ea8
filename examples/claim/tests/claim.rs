//! `cargo test` examines the claim as kernelview examines its own, with the same rules for verdict, report and error rate.

use claim_of_ones_own::CLAIM;
use kernelview::evidence::{ClaimVerdict, Profile};
use kernelview::progress::Silent;
use kernelview::report::write_claims;
use kernelview::tch::Device;
use kernelview::theorems::ERROR_RATE;
use kernelview::verify::{VerifySettings, run};

#[test]
fn the_kernel_concentrates() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = VerifySettings {
        profile: Profile::Quick,
        seed: 13,
        claims: vec![&CLAIM],
        mutants: true,
        device: Device::Cpu,
        jobs: 2,
        until_decided: None,
    };
    let verification = run(&plan, directory.path(), &Silent).expect("an experiment that ends");
    let claim = &verification.claims[0];
    assert_eq!(claim.verdict, ClaimVerdict::Holds, "{:#?}", claim.findings);
    assert!(verification.succeeded(), "{:#?}", verification.mutants);
    assert_eq!((verification.run.claims_in_registry, verification.run.error_rate), (1, ERROR_RATE));
    let written = write_claims(&verification, directory.path()).expect("a report");
    assert!(std::fs::read_to_string(written.report.markdown).expect("a text").contains("gated network"));
}
