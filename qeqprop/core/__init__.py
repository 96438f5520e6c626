"""The engine: estimates, systems, solvers, nudges, schemes, gradients. It knows no physics."""
