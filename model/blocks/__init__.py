"""Architectures, one file each, found by their place: `model.architecture` names a file of this folder.

A file gives

    parameters(config) -> dict[str, Leaf]   the arrays of one block, by `matrix` and `gain` of model/parameters.py;
    block() -> type[nnx.Module]             the class of the block: `Block(config, params)` takes its arrays by those
                                            names, and maps the residual stream x_BTD to the next one.

and nothing else is touched: the ledger, memory, sharding, muP's scales, weight decay and checkpoints follow from
`parameters`. A matrix that writes the axis "heads" makes queries, and the ledger counts their attention. What a block
adds to the stream is multiplied by `parametrization.branch_multiplier`, which muP needs. Planning calls `parameters`
alone, and stays free of JAX where the file imports it inside `block`, as decoder.py does.

A block is computed as it is written, token-major. One that does nothing but call the modules of model/transformer.py
and add may say `RUNS_FEATURE_MAJOR = True`: then the CPU computes it with the feature-major kernels of those modules,
and tests/model/test_kernels.py holds it to its definition.

A file may also give

    CAUSAL = False                  a position sees those after it (default True): an encoder. A literal
    SOURCE = ("encoder_", ...)      an encoder_decoder: how the names of the arrays begin that multiply the tokens of
                                    the source, a literal. The file then gives `encoder()` beside `block()`: a class
                                    whose blocks map the source's stream, built from the arrays encoder_*; the blocks of
                                    `block()` are called with the encoder's result as a second argument
    MUP = False                     mup is refused, a literal (default True)
    attention_pairs(config, query, window) -> (seen, full)
                                    pairs of a query and a key of one layer and window (model/window.py) for the matrix
                                    `query`, that the mask leaves, and all; causal without it, half of all. What the
                                    ledger counts
    READS = ("experts", ...)                the fields of ModelConfig marked `of_some` that it reads, a literal; others
                                            that are set are refused
    Block.with_extras(x) -> (x, Extras)     as `Block(...)(x)`, and what the block asks of the objective: a penalty that
                                            training adds to the loss, numbers that are logged, and arrays that
                                            `after_step` reads (model/extras.py)
    after_step(config, before, after, kept) the arrays of all blocks after an optimizer step, from those before it,
                                            those that the optimizer gave, and the step's `Extras.kept` (of microbatches
                                            the mean): what moves by another rule than its gradient
    UNREAD = ("rope_base", ...)             fields that every decoder reads and this block does not, a literal; one that
                                            is not at its default is refused
    MIXER = "an LSTM"                       what mixes positions where `transformer.Attention` does not, a literal: then
                                            no kernel of attention is chosen
    mixer_floats(config, length)            numbers that it keeps of one token for the backward pass, for the planner
    kept(config, capacity)                  what decoding keeps of one text and layer, for each module that mixes
                                            positions: shapes and dtypes (model/decode/size.py)
    decoding()                              the classes of these modules, and of what goes on in their place from what
                                            was kept: it reads start_B, count_B and kept, and replaces kept
    OBJECTIVE = "masked"                    what trains it, a literal; "next_token" where it does not say
    TINY = {"window": 3}                    fields without which there is no such network, a literal: tests of every
                                            architecture make a small one with them (tests/support/architectures.py)

By CAUSAL and SOURCE an objective knows which networks it trains (training/objectives/__init__.py).
"""
