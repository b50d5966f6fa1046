# Predictions with parts of random terms, coefficients and covariances of modes by lme4, for tests/test_modes.py.
#   Rscript tests/modes/generate.R        (lme4, jsonlite); the data are those of tests/means
suppressMessages({library(lme4); library(jsonlite)})
d <- read.csv("tests/means/trials.csv", stringsAsFactors = TRUE)
new <- data.frame(f = c("a", "b", "c", "a"), g = c("p", "q", "p", "p"), x = c(5, 10, 7, 3), dose = 1:4,
                  subj = c("s01", "s03", "s05", "s07"), item = c("i01", "i02", "i03", "i04"))
models <- list(
  slopes = "y ~ f + x + (x | subj) + (1 | item)",
  zero = "y ~ f + x + (x || subj) + (1 | item)",
  factor = "y ~ f + (f | subj)",
  weighted = "y ~ f + x + (x | subj)",
  nested = "y ~ f + (1 | g / subj)")
fits <- lapply(names(models), function(m) {
  call <- list(formula = as.formula(models[[m]]), data = d, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11, maxfun = 1e5), check.conv.singular = "ignore"))
  suppressMessages(suppressWarnings(do.call(lmer, if (m == "weighted") c(call, list(weights = d$w)) else call)))
})
names(fits) <- names(models)
out <- list()
add <- function(model, re, ...) out[[length(out) + 1]] <<- list(model = model, re_form = re, ...,
  predicted = as.numeric(predict(fits[[model]], new, re.form = if (re == "all") NULL else if (re == "none") NA else as.formula(re))))
for (re in c("all", "none", "~(1 | subj)", "~(0 + x | subj)", "~(x | subj)", "~(1 | item)", "~(1 | subj) + (1 | item)")) add("slopes", re)
for (re in c("~(1 | subj)", "~(0 + x | subj)")) add("zero", re)
for (re in c("all", "~(f | subj)", "none")) add("factor", re)
for (re in c("all", "~(1 | subj)")) add("weighted", re)
for (re in c("~(1 | g)", "all")) add("nested", re)
random <- lapply(c("slopes", "factor", "weighted"), function(m)
  list(model = m, values = as.numeric(predict(fits[[m]], new, re.form = NULL, random.only = TRUE))))
coefs <- lapply(names(models), function(m) list(model = m, groups = lapply(coef(fits[[m]]), function(t)
  list(levels = rownames(t), columns = colnames(t), values = as.matrix(t)))))
covs <- lapply(c("slopes", "factor", "weighted"), function(m) {
  v <- attr(ranef(fits[[m]], condVar = TRUE)$subj, "postVar")
  list(model = m, first = v[, , 1], last = v[, , dim(v)[3]])
})
write_json(list(models = models, new = new, predictions = out, random = random, coefs = coefs, covs = covs),
           "tests/modes/cases.json", auto_unbox = TRUE, digits = 12)
