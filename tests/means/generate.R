# Marginal means, contrasts and trends of R's emmeans for tests/test_means.py, with the data they are of.
#   Rscript tests/means/generate.R        (lme4, lmerTest, pbkrtest, emmeans, jsonlite)
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(jsonlite)})
folder <- "tests/means"
set.seed(20261127)
n <- 240
d <- data.frame(subj = sprintf("s%02d", rep(1:24, each = 10)), item = sprintf("i%02d", sample(12, n, TRUE)))
d$f <- sample(c("a", "b", "c"), n, TRUE, c(.5, .3, .2))
d$g <- ifelse(as.integer(substr(d$subj, 2, 3)) %% 3 == 0, "q", "p")
d$fg <- paste0(d$g, sample(1:3, n, TRUE))
d$dose <- sample(1:4, n, TRUE)
d$x <- round(rgamma(n, 4, .4), 2)
d$w <- round(runif(n, .5, 3), 2)
us <- rnorm(24, 0, 2); ui <- rnorm(12)
d$y <- round(12 + 2 * (d$f == "b") + 3 * (d$f == "c") + 1.5 * (d$g == "q") - (d$f == "b") * (d$g == "q") + .4 * d$x +
  us[as.integer(substr(d$subj, 2, 3))] + ui[as.integer(substr(d$item, 2, 3))] + rnorm(n, 0, 2), 3)
d$y <- d$y + max(0, 1 - min(d$y))
d$share <- round(plogis(scale(d$y)[, 1]), 4)
write.csv(d, file.path(folder, "trials.csv"), row.names = FALSE, quote = FALSE)
d <- read.csv(file.path(folder, "trials.csv"), stringsAsFactors = TRUE)
d2 <- droplevels(subset(d, !(f == "c" & g == "q")))
models <- list(
  crossed = list("y ~ f * g + x + (1 | subj) + (1 | item)", "all"),
  slopes = list("y ~ f * x + (1 | subj)", "all"),
  quadratic = list("y ~ f + x + I(x^2) + (1 | subj)", "all"),
  nested = list("y ~ g/fg + (1 | subj)", "all"),
  empty = list("y ~ f * g + x + (1 | subj)", "empty"),
  log = list("log(y) ~ f + x + (1 | subj)", "all"),
  log10 = list("log10(y) ~ f * g + (1 | subj)", "all"),
  plus = list("log(y + 3) ~ f + x + (1 | subj)", "all"),
  root = list("sqrt(y) ~ f + x + (1 | subj)", "all"),
  inverse = list("1/y ~ f + (1 | subj)", "all"),
  logit = list("qlogis(share) ~ f + (1 | subj)", "all"),
  weighted = list("y ~ f * g + x + (1 | subj)", "all", "w"),
  singular = list("y ~ factor(dose) + f + (1 | subj) + (1 | item:g)", "all"))
fits <- lapply(models, function(m) {
  own <- if (m[[2]] == "all") d else d2
  call <- list(formula = as.formula(m[[1]]), data = own)  # the formula itself: emmeans reads it from the call
  do.call(lmer, if (length(m) > 2) c(call, list(weights = own$w)) else call)
})
numbers <- function(s) { s <- as.data.frame(s); lapply(s[sapply(s, is.numeric)], function(v) signif(as.numeric(v), 12)) }
out <- list()
add <- function(name, model, call, value) out[[length(out) + 1]] <<- c(list(name = name, model = model, call = call), numbers(value))
e <- function(model, ...) suppressMessages(emmeans(fits[[model]], ...))
for (w in c("equal", "proportional", "outer", "cells", "flat"))
  add(paste("weights", w), "crossed", list(specs = "f", weights = w), e("crossed", "f", weights = w))
for (k in c("eff", "del.eff", "mean_chg", "consec", "trt.vs.ctrl", "trt.vs.ctrlk", "poly", "identity"))
  add(k, "crossed", list(specs = "f", contrasts = k, adjust = "none"), contrast(e("crossed", "f"), k, adjust = "none"))
add("ref", "crossed", list(specs = "f", by = "g", contrasts = "trt.vs.ctrl", ref = "c", adjust = "none"),
    contrast(e("crossed", ~ f | g), "trt.vs.ctrl", ref = "c", adjust = "none"))
for (a in c("scheffe", "fdr", "dunnettx", "mvt", "sidak", "holm", "tukey", "bonferroni")) {
  k <- if (a == "tukey") "pairwise" else "trt.vs.ctrl"
  add(paste("adjust", a), "crossed", list(specs = "f", by = "g", contrasts = k, adjust = a), contrast(e("crossed", ~ f | g), k, adjust = a))
  add(paste("limits", a), "crossed", list(specs = "f", by = "g", contrasts = k, adjust = a), confint(contrast(e("crossed", ~ f | g), k, adjust = a)))
}
add("interaction", "crossed", list(specs = c("f", "g"), interaction = "pairwise"), contrast(e("crossed", ~ f * g), interaction = "pairwise"))
add("interaction of two kinds", "crossed", list(specs = c("f", "g"), interaction = c("poly", "consec")), contrast(e("crossed", ~ f * g), interaction = c("poly", "consec")))
add("grand mean", "crossed", list(specs = "1"), e("crossed", ~ 1))
add("nested outer", "nested", list(specs = "g"), e("nested", "g"))
add("nested inner", "nested", list(specs = "fg"), e("nested", "fg"))
add("nested pairs", "nested", list(specs = "fg", contrasts = "pairwise"), pairs(e("nested", "fg")))
add("nested proportional", "nested", list(specs = "g", weights = "proportional"), e("nested", "g", weights = "proportional"))
add("nested grand mean", "nested", list(specs = "1"), e("nested", ~ 1))
add("empty cells", "empty", list(specs = c("f", "g")), e("empty", ~ f * g))
shown <- function(m) {  # emmeans does not know the last two from the formula
  means <- e(m, "f", type = "response")
  if (m %in% c("inverse", "logit")) update(means, tran = m, predict.type = "response") else means
}
for (m in c("log", "log10", "plus", "root", "inverse", "logit"))
  add(paste("response", m), m, list(specs = "f", type = "response"), shown(m))
for (m in c("log", "log10", "logit"))
  add(paste("ratios", m), m, list(specs = "f", type = "response", contrasts = "pairwise"), pairs(shown(m)))
add("weighted", "weighted", list(specs = c("f", "g"), ddf = "satterthwaite"), e("weighted", ~ f * g, lmer.df = "satterthwaite"))
add("singular", "singular", list(specs = "dose", contrasts = "poly"), contrast(e("singular", "dose"), "poly"))
t <- function(model, ...) suppressMessages(emtrends(fits[[model]], ...))
add("trend", "slopes", list(specs = "f", var = "x"), t("slopes", "f", var = "x"))
add("trend pairs", "slopes", list(specs = "f", var = "x", contrasts = "pairwise"), pairs(t("slopes", "f", var = "x")))
add("trend of a logarithm", "slopes", list(specs = "f", var = "log(x)"), t("slopes", "f", var = "log(x)", delta.var = 1e-6))
add("trend of a quadratic", "quadratic", list(specs = "1", var = "x", at = list(x = 7)), t("quadratic", ~ 1, var = "x", at = list(x = 7), delta.var = 1e-4))
add("joint", "crossed", list(joint = TRUE), as.data.frame(joint_tests(fits$crossed)))
add("joint by", "crossed", list(joint = TRUE, by = "g"), as.data.frame(joint_tests(fits$crossed, by = "g")))
write_json(list(models = models, cases = out), file.path(folder, "cases.json"), auto_unbox = TRUE, digits = 12, na = "null")
