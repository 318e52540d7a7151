"""Signal plans: proposed by controllers, proven by `safety`, executed by `executor`, published as `ApprovedPlan`.

The way of a plan: a controller's `propose` gives `Proposal`s, `arbiter.decide` picks one a junction,
`safety.approve` proves it against the junction and the lamps as they stand, and only the `ApprovedPlan` that
comes out may be published.
"""
