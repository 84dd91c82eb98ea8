//! The shares of layers in a kernel.

use crate::evidence::LayerShare;
use crate::jacobian::ParameterSpec;
use crate::kernel::ParameterShare;

/// Groups the shares of the parameters marked by `include` by layer, in the network's order.
pub fn layer_shares(specs: &[ParameterSpec], shares: &[ParameterShare], include: &[bool]) -> Vec<LayerShare> {
    let total = |f: fn(&ParameterShare) -> f64| shares.iter().map(f).sum::<f64>().max(f64::MIN_POSITIVE);
    let (sgd, signgd) = (total(|s| s.trace_sgd), total(|s| s.trace_signgd.unwrap_or(0.0)));
    let signed = shares.iter().all(|s| s.trace_signgd.is_some());
    let mut layers: Vec<LayerShare> = Vec::new();
    for share in shares.iter().filter(|s| include[s.parameter]) {
        let spec = &specs[share.parameter];
        let index = layers.iter().position(|l| l.layer == spec.layer).unwrap_or_else(|| {
            layers.push(LayerShare {
                layer: spec.layer.clone(),
                parameters: 0,
                sgd: 0.0,
                signgd: signed.then_some(0.0),
            });
            layers.len() - 1
        });
        let layer = &mut layers[index];
        layer.parameters += spec.numel();
        layer.sgd += share.trace_sgd / sgd;
        layer.signgd = layer.signgd.zip(share.trace_signgd).map(|(sum, part)| sum + part / signgd);
    }
    layers
}
