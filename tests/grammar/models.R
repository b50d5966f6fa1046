# REML criteria of lme4 for formulas that use the language, on crossed.csv and missing.csv.

model_texts <- list(
crossed = r"---(
y ~ x + (1 | g)
y ~ x + (x | g)
y ~ x + (1 | g) + (1 | h)
y ~ x + (x | g) + (1 | h)
y ~ x + (0 + x | g)
y ~ x + (-1 + x | g)
y ~ x + (x - 1 | g)
y ~ x + (1 | g) + (0 + x | g)
y ~ x + (x || g)
y ~ x + (1 + x || g)
y ~ x + (x + z || g)
y ~ x + (0 + x || g)
y ~ f + (f || g)
y ~ f + (0 + f || g)
y ~ f + x + (f * x || g)
y ~ f + (f | g)
y ~ f + (0 + f | g)
y ~ 1 | g
y ~ x | g
y ~ 0 + x | g
y ~ x + 1 | g
y ~ x + z | g
y ~ x + (1 | g) | h
y ~ 1 + (1 | g)
y ~ 0 + x + (1 | g)
y ~ x + (1 | g) - 1
y ~ x - 1 + (1 | g)
y ~ (1 | g)
y ~ (1 | g) + (1 | h)
y ~ (1 | g) + x
y ~ (x | g)
y ~ x + ((1 | g))
y ~ x + ((1 | g) + (1 | h))
y ~ x + (1 | (g))
y ~ (x + (1 | g))
y ~ x + (1 | g) + (1 | g)
y ~ x * (1 | g)
y ~ x + (1 | g):f
y ~ x - (1 | g)
y ~ x + -(1 | g)
y ~ x + (1 | g) + (x | g)
y ~ x + (1 | f)
y ~ x + (1 | f * k)
y ~ x + (1 | f + k)
y ~ x + (1 | f : k)
y ~ x + (1 | f / k)
y ~ x + (1 | f %in% k)
y ~ x + (1 | (f + k))
y ~ x + (1 | g * f)
y ~ x + (1 | g + h)
y ~ x + (1 | g * h)
y ~ x + (1 | g + f + k)
y ~ x + (1 | g:f + h)
y ~ x + (1 | g / f + h)
y ~ x + (x | g + h)
y ~ x + (1 | g / f)
y ~ x + (1 | (g / f))
y ~ x + (1 | g / f / flag)
y ~ x + (x | g / f)
y ~ x + (x || g / f)
y ~ x + (1 | g) + (1 | g:f)
y ~ x + (1 | f:g)
y ~ x + (1 | (g:f))
y ~ x + (1 | g:f:flag)
y ~ x + (1 | g:f) + (1 | h)
y ~ x + (1 | h / (f + k))
y ~ x + (1 | (f + k) / g)
y ~ x + (1 | (f + k):g)
y ~ x + (1 | g - f)
y ~ x + (1 | g^2)
y ~ x + (1 | (f + k)^2)
y ~ x + (1 | g:factor(num))
y ~ x + (1 | factor(num))
y ~ x + (1 | factor(cls)) + (1 | g)
y ~ x + (1 | num)
y ~ x + (1 | flag)
y ~ x + (1 | interaction(f, g))
y ~ x + (1 | interaction(g, f, drop = TRUE))
y ~ x + (1 | paste(g, f))
y ~ x + (1 | paste0(g, "_", f))
y ~ x + (1 | I(g))
y ~ x + (1 | as.factor(num))
y ~ x + (1 | cut(z, 4))
y ~ x + (1 | cut(z, c(0, 3, 6, 9)))
y ~ x + (1 | substr(g, 1, 2))
y ~ x + (1 | substr(g, 2, 3))
y ~ x + (1 | x > 0)
y ~ x + (1 | ifelse(x > 0, "pos", "neg"))
y ~ x + (1 | factor(g, levels = rev(unique(g))))
y ~ x + (1 | 1)
y ~ x + (1 | x)
y ~ x + (1 | nosuch)
y ~ x + (nosuch | g)
y ~ x + nosuch + (1 | g)
y ~ x + (dummy(f, "b") | g)
y ~ f + (0 + dummy(f, "b") | g)
y ~ f + (0 + dummy(f, c("a", "b")) | g)
y ~ f + (dummy(f) | g)
y ~ f + (dummy(f, "b") || g)
y ~ f + (1 | g) + (0 + dummy(f, "b") | g) + (0 + dummy(f, "c") | g)
y ~ x + (0 + dummy(k, c("lo", "hi")):x | g)
y ~ x + (I(x^2) | g)
y ~ x + (log(z) | g)
y ~ x + (scale(x) | g)
y ~ scale(x) + (scale(x) | g)
y ~ poly(x, 2) + (poly(x, 2) | g)
y ~ poly(x, 2) + (poly(x, 2)[, 1] | g)
y ~ ns(x, 3) + (1 | g)
y ~ ns(x, 3) + (ns(x, 2) | g)
y ~ bs(x, df = 4) + (1 | g)
y ~ flag + (flag | g)
y ~ flag + (0 + flag | g)
y ~ flag + (flag || g)
y ~ x:f + (x:f | g)
y ~ x * f + (0 + x:f | h)
y ~ x + (x > 0 | g)
y ~ x + ((x > 0) | g)
y ~ x + (I(x > 0 & flag) | g)
y ~ x + (as.numeric(flag) | g)
y ~ x + ({x + z} | g)
y ~ x + (ifelse(x > 0, x, 0) | g)
y ~ x + (factor(cls) | g)
y ~ o + (o | g)
y ~ o + (1 | g)
y ~ f / x + (1 | g)
y ~ f %in% k + (1 | g)
y ~ (x + z + f)^2 + (1 | g)
y ~ (x + z + f)^2 - x:z + (1 | g)
y ~ x * f - f + (1 | g)
y ~ I(x^2) + x + (1 | g)
y ~ I(x > 0 & flag) + (1 | g)
y ~ I(2 * num %% 3) + (1 | g)
y ~ I((x > 0) + (z > 5)) + (1 | g)
y ~ {x + z} + (1 | g)
y ~ x > 0 + (1 | g)
y ~ (x > 0) + (1 | g)
y ~ !flag + (1 | g)
y ~ flag + !flag + (1 | g)
y ~ x + f == "a" + (1 | g)
y ~ I(f == "a") + (1 | g)
y ~ cut(x, c(-20, 0, 20)) + (1 | g)
y ~ cut(z, 3) * x + (1 | g)
y ~ ifelse(x > 0, "pos", "neg") + (1 | g)
y ~ interaction(f, flag) + (1 | g)
y ~ factor(num) + (1 | g)
y ~ relevel(factor(f), ref = "b") + (1 | g)
y ~ factor(k, levels = c("lo", "mid", "hi", "top")) + (1 | g)
y ~ ordered(k, levels = c("lo", "mid", "hi", "top")) + (1 | g)
y ~ C(factor(f), sum) + (1 | g)
y ~ C(factor(f), contr.treatment, base = 2) + (1 | g)
y ~ C(factor(f), contr.sum) * x + (1 | g)
y ~ as.numeric(dose) + (1 | g)
y ~ log(as.numeric(dose)) + (1 | g)
y ~ as.numeric(as.Date(day)) + (1 | g)
y ~ as.numeric(o) + (1 | g)
y ~ day + (1 | g)
y ~ splines::ns(x, 3) + (1 | g)
y ~ stats::poly(x, 2) + (1 | g)
y ~ base::log(z) + (1 | g)
y ~ log(z, base = 2) + (1 | g)
y ~ `total length` + resp.time + (1 | g)
y ~ `total length` + (log(resp.time) | g)
y ~ x + (`total length` | g)
log(resp.time) ~ x + (1 | g)
log(resp.time, 10) ~ x + (1 | g)
scale(y) ~ x + (1 | g)
I(y^2) ~ x + (1 | g)
`total length` ~ x + (1 | g)
y - x ~ z + (1 | g)
-y ~ x + (1 | g)
c(scale(y)) ~ scale(x) + (1 | g)
flag ~ x + (1 | g)
f ~ x + (1 | g)
cbind(y, x) ~ z + (1 | g)
~ x + (1 | g)
y ~ x + offset(z) + (1 | g)
y ~ x + offset(log(z)) + (1 | g)
y ~ offset(0.5 * x) + (1 | g)
y ~ x + offset(z) + offset(x) + (1 | g)
y ~ x - offset(z) + (1 | g)
y ~ x + (1 | g) + offset(2 * z)
y ~ x + y + (1 | g)
y ~ x + (y | g)
y ~ x + x + (1 | g)
y ~ x + I(2 * x) + (1 | g)
y ~ f + I(f == "b") + (1 | g)
y ~ x
y ~ x + f
y ~ z | g + h
y ~ x + (1 | g
y ~ x + (1 || g)
y ~ x + (1 | g || h)
y ~ x + (1 | g | h)
y ~ x + (| g)
y ~ x + (1 |)
y ~ x + (0 | g)
y ~ x + (x | g) + (1 | h) # a comment
y ~ x + (1 | g)^2
y ~ x + (1 | g) + 2
y ~ (x + f) * z + (1 | g) - z
y ~ x + (1 | g) + (1 | h) - x
y ~ x + I(1 | flag) + (1 | g)
y ~ I(flag | x > 0) + (1 | g)
y ~ I(flag + (x > 0) > 0) + (1 | g)
y ~ (flag | x > 0) + (1 | g)
y ~ x + (x + f | g)
y ~ x + (x + 0 | g)
y ~ x + (x * z | g)
y ~ x + (1 + x + I(x^2) | h)
y ~ x + (x | g) + (z | g)
y ~ x + (x | g) + (0 + z | g)
y ~ x + (1 | g) + (0 + f | h)
y ~ x + (z | h) + (f | g)
)---",
small = r"---(
y ~ . + (1 | g)
y ~ (1 | g) + .
y ~ (1 | g) + . - h
y ~ . - h + (1 | h)
y ~ . - g + (1 | g)
y ~ . - x + (x | g)
y ~ . * x + (1 | g)
y ~ (. - g - h)^2 + (1 | g)
y ~ x + (. - g - h - y | g)
y ~ x + (1 | .)
y ~ 1 + (1 | g) + (1 | h)
. ~ x + (1 | g)
y ~ I(.) + (1 | g)
y ~ (log(z) | g) + . - g - h
y ~ . + log(z) + (1 | g)
y ~ . + I(x^2) - g + (1 | g)
log(y + 20) ~ . - g + (1 | g)
y ~ . - g + offset(z) + (1 | g)
y ~ (. - g - h) * x + (1 | g)
y ~ . - g - h + (1 | g:f)
y ~ log(.) + (1 | g)
y ~ x + (1 | g) + .
y ~ 0 + . - g + (1 | g)
y ~ . - g - h + (1 | g) + (1 | h)
)---",
missing = r"---(
y ~ x + (1 | g)
y ~ scale(x) + (1 | g)
y ~ scale(x) + z + (1 | g)
y ~ scale(x) * scale(z) + (1 | g)
y ~ c(scale(x)) + f + (1 | g)
y ~ I(x - mean(x, na.rm = TRUE)) + (1 | g)
y ~ I(x - mean(x)) + (1 | g)
y ~ ns(x, 3) + (1 | g)
y ~ ns(x, 3) + f + (1 | g)
y ~ bs(x, df = 4) + z + (1 | g)
y ~ poly(x, 2) + (1 | g)
y ~ poly(num, 2) + (1 | g)
y ~ poly(cls, 2) + (1 | g)
y ~ poly(cls, 2) + z + (1 | g)
y ~ cut(x, 3) + z + (1 | g)
y ~ cut(x, quantile(x, c(0, 0.5, 1), na.rm = TRUE), include.lowest = TRUE) + (1 | g)
y ~ ifelse(is.na(x), 0, x) + (1 | g)
y ~ is.na(x) + (1 | g)
y ~ ifelse(is.na(f), "none", f) + (1 | g)
y ~ f + (1 | g)
y ~ factor(f, exclude = NULL) + (1 | g)
y ~ o + (1 | g)
y ~ flag + (1 | g)
y ~ I(x > 0 & flag) + (1 | g)
y ~ f %in% "a" + (1 | g)
y ~ I(f %in% "a") + (1 | g)
y ~ interaction(f, flag) + (1 | g)
y ~ as.numeric(dose) + (1 | g)
y ~ x + (1 | f)
y ~ x + (scale(z) | g)
y ~ x + (1 | g) + (1 | f)
y ~ z + offset(x) + (1 | g)
scale(y) ~ x + (1 | g)
log(resp.time) ~ scale(x) + (1 | g)
)---")

tight <- lmerControl(
  optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 4000),
  calc.derivs = FALSE, check.conv.singular = "ignore", check.nobs.vs.nRE = "ignore",
  check.nobs.vs.nlev = "stop", check.scaleX = "ignore"
)

# The lowest of several descents: lme4's defaults stop up to 1e-4 above the optimum.
lowest <- function(fit, text, data) {
  devfun <- suppressMessages(suppressWarnings(
    lmer(model_formula(text), data, control = tight, devFunOnly = TRUE)
  ))
  lower <- getME(fit, "lower")
  theta <- getME(fit, "theta")
  polish <- function(theta) {
    for (i in 1:2) theta <- nlminb(theta, devfun, lower = lower, control = list(
      rel.tol = 1e-14, x.tol = 1e-12, iter.max = 300, eval.max = 600
    ))$par
    theta
  }
  starts <- list(theta, ifelse(lower == 0, 0.5, 0))
  ends <- lapply(starts, function(start) tryCatch(polish(start), error = function(e) theta))
  values <- vapply(c(list(theta), ends), devfun, 0)
  list(theta = unlist(c(list(theta), ends)[which.min(values)]), values = values)
}

refit_at <- function(text, data, theta) {
  lmer(model_formula(text), data, start = theta, control = lmerControl(
    optimizer = NULL, calc.derivs = FALSE, check.conv.singular = "ignore",
    check.nobs.vs.nRE = "ignore", check.scaleX = "ignore"
  ))
}

model_formula <- function(text) as.formula(text, env = new.env(parent = globalenv()))

# One for each term of random effects: its grouping factor and its columns.
bars_of <- function(fit) {
  lapply(seq_along(fit@cnms), function(i) {
    list(factor = one(names(fit@cnms)[i]), columns = unname(fit@cnms[[i]]))
  })
}

# Known to about 1e-9 of the criterion and 1e-8 of coefficients; more digits are noise of the descent.
rounded <- function(v, digits) signif(as.vector(v), digits)

# What a formula says whose grouping lme4 1.1-31 cannot read: a calculated grouping factor is made
# a column of its own; a sum or product of factors becomes one bar for each of its terms, as later
# versions of lme4 do (by the package reformulas).
rewritten <- function(call, made) {
  if (!is.call(call)) return(call)
  if (!identical(call[[1]], as.name("|"))) {
    for (i in seq_along(call)[-1]) call[[i]] <- rewritten(call[[i]], made)
    return(call)
  }
  group <- columns_made(call[[3]], made)
  labels <- attr(terms(as.formula(call("~", group))), "term.labels")
  labels <- gsub(" %in% ", ":", labels, fixed = TRUE)
  bars <- lapply(labels, function(label) call("(", call("|", call[[2]], str2lang(label))))
  Reduce(function(a, b) call("+", a, b), bars)
}

columns_made <- function(call, made) {
  if (!is.call(call)) return(call)
  if (as.character(call[[1]])[1] == "(") return(columns_made(call[[2]], made))
  if (as.character(call[[1]])[1] %in% c(":", "/", "*", "+", "-", "^", "%in%")) {
    for (i in 2:3) if (!is.numeric(call[[i]])) call[[i]] <- columns_made(call[[i]], made)
    return(call)
  }
  name <- paste0("made", length(ls(made)) + 1)
  assign(name, call, made)
  as.name(name)
}

# The record of that, if it can be fitted.
instead <- function(record, text, set, data) {
  made <- new.env()
  formula <- attempt(rewritten(str2lang(text), made))$value
  if (is.null(formula)) return(record)
  columns <- as.list(made)[sort(ls(made))]
  for (name in names(columns)) data[[name]] <- attempt(eval(columns[[name]], data))$value
  short <- paste(deparse(formula, width.cutoff = 500), collapse = " ")
  if (identical(formula, str2lang(text))) return(record)
  other <- model_record(short, set, data, final = TRUE)
  if (!is.null(other$error)) return(record)
  if (length(columns)) record$made <- lapply(columns, function(call) one(deparse(call)))
  c(record, list(stands_for = one(short)), other[!names(other) %in% c("text", "data")])
}

model_record <- function(text, set, data, final = FALSE) {
  record <- list(text = one(text), data = one(set))
  message(format(Sys.time(), "%H:%M:%S "), set, "  ", text)
  got <- attempt(lmer(model_formula(text), data, control = tight))
  if (!is.null(got$error)) {
    record$error <- one(sub("\n.*", "", got$error))
    grouping <- grepl("rouping", got$error)
    return(if (final || !grouping) record else instead(record, text, set, data))
  }
  best <- lowest(got$value, text, data)
  if (length(best$theta) == 0) return(c(record, list(error = one("the criterion is not finite"))))
  fit <- attempt(refit_at(text, data, best$theta))$value
  beta <- fixef(fit)
  groups <- getME(fit, "flist")
  compact(c(record, list(
    criterion = one(rounded(min(best$values), 11)), spread = one(round(diff(range(best$values[1:2])), 5)),
    rows = one(nobs(fit)), names = names(beta), beta = rounded(beta, 8),
    bars = bars_of(fit), levels = lapply(groups, function(v) one(nlevels(v)))[names(groups)],
    parameters = one(length(best$theta)), sigma = one(rounded(sigma(fit), 8)),
    dropped = attr(getME(fit, "X"), "col.dropped") |> names(),
    warning = if (!is.null(got$warning)) one(sub("\n.*", "", got$warning))
  )))
}

# For `.`: a table of few columns.
small <- function(data) data[c("y", "x", "z", "f", "g", "h")]

write_models <- function(sets) {
  data <- list(crossed = sets$crossed.csv, small = small(sets$crossed.csv), missing = sets$missing.csv)
  records <- list()
  for (set in names(model_texts))
    records <- c(records, lapply(lines_of(model_texts[[set]]), model_record, set, data[[set]]))
  write_records(records, "models.json")
}
