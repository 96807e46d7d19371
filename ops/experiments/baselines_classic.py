"""Classic models on the fresh statistics: logistic regression and gradient boosting. numpy, and LightGBM for one."""
import numpy as np

from baselines_data import TEST, TRAIN, VALIDATION, about, responses

MEANS = ["user_mean", "user_log_count", "item_mean", "item_log_count"]


def logit_columns(columns, names):
    """Means as logits, clipped to [.02, .98]."""
    columns = columns.astype(float)
    for i, name in enumerate(names):
        if name.endswith("_mean") or name == "user_recent":
            share = np.clip(columns[:, i], .02, .98)
            columns[:, i] = np.log(share / (1 - share))
    return columns


def fit_logistic(columns, labels):
    """(shift, scale, weights), by Newton's method with next to no regularisation."""
    shift, scale = columns.mean(0), columns.std(0) + 1e-9
    inputs = np.c_[(columns - shift) / scale, np.ones(len(labels))]
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-inputs @ weights))
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-3 * np.eye(len(weights))
        step = np.linalg.solve(hessian, inputs.T @ (p - labels) + 1e-3 * weights)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return shift, scale, weights


def score_logistic(model, columns):
    shift, scale, weights = model
    return np.c_[(columns - shift) / scale, np.ones(len(columns))] @ weights


def logistic_scores(data, chosen, extra=None, tested=None):
    """Logits of the test's candidates by the statistics named in `chosen`, and the columns of `extra`.
    tested: other columns for the test's candidates than those that `chosen` names."""
    names, part = [str(name) for name in data["names"]], data["part"][data["group"]]
    columns = logit_columns(data["features"][:, [names.index(name) for name in chosen]], chosen)
    if extra is not None:
        columns = np.c_[columns, extra]
    model = fit_logistic(columns[part == TRAIN], data["label"][part == TRAIN].astype(float))
    return score_logistic(model, columns[part == TEST] if tested is None else logit_columns(tested, chosen))


def frozen_means(data, rows):
    """MEANS of these rows as the statistics table defines them, from what was known at the split: the interactions
    before the first test sample; where users were drawn, those of the other parts' users, and the user's own."""
    response, log = responses(data), data["log"]
    if about(data)["by_users"]:
        kept = ~np.isin(log[:, 1], data["user"][data["part"] == TEST])
    else:
        kept = log[:, 0] < data["time"][data["part"] == TEST].min()
    log, response = log[kept], response[kept]
    # Of a pair the latest row counts, of the same time the greatest rating.
    order = np.lexsort((response, log[:, 0], log[:, 2], log[:, 1]))
    log, response = log[order], response[order]
    last = np.r_[np.any(np.diff(log[:, 1:3], axis=0), axis=1), True]
    log, response = log[last], response[last]
    overall = (response.sum() + 50 * .7) / (len(response) + 50)
    columns = []
    for column, ids, size, weight in ((1, data["user"][data["group"][rows]], int(data["users"]), 5),
                                      (2, data["item"][rows], int(data["items"]), 3)):
        which = log[:, column].astype(int)
        count = np.bincount(which, minlength=size + 1)
        total = np.bincount(which, response, size + 1)
        columns += [((total + weight * overall) / (count + weight))[ids], np.log1p(count)[ids]]
    if about(data)["by_users"]:
        names = [str(name) for name in data["names"]]
        columns[:2] = [data["features"][rows, names.index(name)] for name in MEANS[:2]]
    return np.stack(columns, 1)


def lightgbm_scores(data, chosen, seed, extra=None):
    """Raw scores of the test's candidates, with as many trees as the validation part likes."""
    import lightgbm
    names, part = [str(name) for name in data["names"]], data["part"][data["group"]]
    columns, labels = data["features"][:, [names.index(name) for name in chosen]], data["label"].astype(float)
    if extra is not None:
        columns = np.c_[columns, extra]
    settings = {"objective": "binary", "learning_rate": .05, "num_leaves": 31, "min_data_in_leaf": 100,
                "feature_fraction": .8, "bagging_fraction": .8, "bagging_freq": 1, "lambda_l2": 1.0,
                "metric": "binary_logloss", "seed": seed, "deterministic": True, "num_threads": 1, "verbose": -1}
    train = lightgbm.Dataset(columns[part == TRAIN], labels[part == TRAIN])
    valid = lightgbm.Dataset(columns[part == VALIDATION], labels[part == VALIDATION], reference=train)
    model = lightgbm.train(settings, train, 1000, [valid], callbacks=[lightgbm.early_stopping(50, verbose=False)])
    return model.predict(columns[part == TEST], raw_score=True)
