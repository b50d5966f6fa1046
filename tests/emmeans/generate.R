# Estimated marginal means by R's emmeans: references for ../test_emmeans.py.
#
# Run in this folder: Rscript generate.R. Writes NAME.json for every design below; the data are
# those of ../reference/data. Fits are polished to the optimum (Newton steps with Richardson
# derivatives), because standard errors are compared to a relative 1e-6.
#
# Made with R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, emmeans 1.8.4-1.

suppressMessages({
  library(lme4); library(lmerTest); library(emmeans); library(jsonlite); library(numDeriv)
})
emm_options(lmerTest.limit = 1e5, pbkrtest.limit = 1e5)
FOLDER <- "../reference/data"

read_data <- function(name) {
  facts <- fromJSON(file.path(FOLDER, paste0(name, ".json")))$columns
  text <- read.csv(file.path(FOLDER, paste0(name, ".csv.gz")), colClasses = "character",
                   na.strings = "", check.names = FALSE)
  for (column in names(text)) {
    type <- facts[[column]]$type
    text[[column]] <- switch(
      type,
      factor = factor(text[[column]], levels = facts[[column]]$levels),
      ordered = factor(text[[column]], levels = facts[[column]]$levels, ordered = TRUE),
      logical = as.logical(text[[column]]),
      character = text[[column]],
      as.numeric(text[[column]]))
  }
  text
}

polished <- function(formula, data, REML, weights, offset) {
  lf <- do.call(lFormula, list(formula, data, REML = REML, weights = weights, offset = offset,
                               control = lmerControl(check.nobs.vs.nlev = "ignore",
                                                     check.nobs.vs.nRE = "ignore")))
  f <- do.call(mkLmerDevfun, lf)
  opt <- optimizeLmer(f, optimizer = "bobyqa", control = list(rhoend = 1e-10, maxfun = 1e5))
  theta <- opt$par
  for (step in 1:3) theta <- theta - solve(hessian(f, theta), grad(f, theta))
  opt$par <- theta
  opt$fval <- f(theta)
  fit <- mkMerMod(environment(f), opt, lf$reTrms, fr = lf$fr)
  fit@call <- call("lmer", formula = formula, data = as.name("data"), REML = REML)
  if (!is.null(weights)) fit@call$weights <- as.name("weights")
  if (!is.null(offset)) fit@call$offset <- as.name("offset")
  environment(formula) <- environment()
  list(fit = fit, data = data)
}

asked <- function(fit, data, ask, ddf) {
  specs <- ask[intersect(names(ask), c("specs", "by", "at", "weights"))]
  specs$specs <- unlist(specs$specs)
  if (!is.null(specs$at)) specs$at <- lapply(specs$at, unlist)
  em <- do.call(emmeans, c(list(fit, data = data, lmer.df = ddf), specs))
  out <- list(means = as.data.frame(summary(em)))
  if (!is.null(ask$contrasts)) {
    method <- ask$contrasts
    if (is.list(method)) method <- lapply(method, unlist)
    con <- contrast(em, method, adjust = ask$adjust)
    out$contrasts <- as.data.frame(summary(con))
    out$intervals <- as.data.frame(confint(con))
  }
  out$notes <- attr(summary(em), "mesg")
  out
}

record <- function(name, dataset, formula, asks, REML = TRUE, weights = NULL, offset = NULL,
                   contrasts = NULL, every = 1) {
  data <- read_data(dataset)
  data <- droplevels(data[seq(1, nrow(data), every), , drop = FALSE])
  for (column in names(contrasts)) contrasts(data[[column]]) <- contrasts[[column]]
  w <- if (is.null(weights)) NULL else data[[weights]]
  o <- if (is.null(offset)) NULL else data[[offset]]
  fit <- polished(as.formula(formula), data, REML, w, o)$fit
  methods <- c("satterthwaite", if (REML) "kenward-roger")
  results <- lapply(asks, function(ask) {
    found <- lapply(methods, function(ddf) asked(fit, data, ask, ddf))
    names(found) <- methods
    c(list(ask = ask), found)
  })
  fields <- list(dataset = dataset, formula = formula, REML = REML, weights = weights,
                 offset = offset, contrasts = contrasts, every = every, results = results)
  fields <- fields[!vapply(fields, is.null, TRUE)]
  write(toJSON(fields, auto_unbox = TRUE, digits = NA, na = "null", dataframe = "columns"),
        paste0(name, ".json"))
  cat(name, "\n")
}

chosen <- commandArgs(TRUE)
design <- function(name, ...) if (!length(chosen) || name %in% chosen) record(name, ...)

design("stool", "ergoStool", "effort ~ Type + (1 | Subject)", list(
  list(specs = "Type", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "Type", contrasts = "trt.vs.ctrl", adjust = "holm"),
  list(specs = "Type", contrasts = "consec", adjust = "sidak"),
  list(specs = "Type", contrasts = "poly", adjust = "none"),
  list(specs = "Type", contrasts = list(half = list(-0.5, -0.5, 0.5, 0.5),
                                        ends = list(-1, 0, 0, 1)), adjust = "bonferroni")))
design("stool_sum", "ergoStool", "effort ~ Type + (1 | Subject)", list(
  list(specs = "Type", contrasts = "pairwise", adjust = "bonferroni")),
  contrasts = list(Type = "contr.sum"))
design("cake", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", list(
  list(specs = "recipe", by = "temperature", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "temperature", contrasts = "poly", adjust = "none"),
  list(specs = "temperature", by = "recipe", contrasts = "poly", adjust = "holm"),
  list(specs = list("recipe", "temperature"),
       at = list(temperature = list("175", "225"), recipe = list("A", "C")),
       contrasts = "pairwise", adjust = "tukey")))
design("orthodont", "Orthodont", "distance ~ age * Sex + (age | Subject)", list(
  list(specs = "Sex", contrasts = "pairwise", adjust = "none"),
  list(specs = "Sex", at = list(age = 8), contrasts = "pairwise", adjust = "none"),
  list(specs = "Sex", by = "age", at = list(age = list(8, 10, 14)), contrasts = "pairwise",
       adjust = "none"),
  list(specs = list("age", "Sex"), at = list(age = list(8, 14)))))
design("curves", "Orthodont", "distance ~ poly(log(age), 2) * Sex + (1 | Subject)", list(
  list(specs = "Sex", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "Sex", by = "age", at = list(age = list(9, 13)), contrasts = "pairwise",
       adjust = "none")))
design("ages", "Orthodont", "distance ~ factor(age) * Sex + (1 | Subject)", list(
  list(specs = "Sex", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "age", by = "Sex", contrasts = "consec", adjust = "holm")))
design("machines", "Machines_unb", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", list(
  list(specs = "Machine", contrasts = "pairwise", adjust = "sidak"),
  list(specs = "Machine", contrasts = "trt.vs.ctrl", adjust = "bonferroni")))
design("crossed", "fhch2010", "log_rt ~ task * stimulus + length + (1 | id) + (1 | item)", list(
  list(specs = "length", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "stimulus", by = "task", weights = "proportional", contrasts = "pairwise",
       adjust = "none"),
  list(specs = "task", weights = "proportional", contrasts = "pairwise", adjust = "none")),
  every = 25)
design("obk", "obk.long", "value ~ treatment * gender * phase + (1 | id) + (1 | id:phase)", list(
  list(specs = "treatment", weights = "proportional", contrasts = "pairwise", adjust = "tukey"),
  list(specs = "phase", by = "gender", weights = "proportional", contrasts = "consec",
       adjust = "holm"),
  list(specs = list("treatment", "gender"), contrasts = "pairwise", adjust = "tukey")))
design("schools", "egsingle", "math ~ year * female + size + (1 | schoolid)", list(
  list(specs = "female", contrasts = "pairwise", adjust = "none")), REML = FALSE)
design("weighted", "nlschools", "lang ~ IQ + SES + COMB + (1 | class)", list(
  list(specs = "COMB", contrasts = "pairwise", adjust = "none")), REML = FALSE, weights = "GS")
design("two_values", "kb07", "RTtrunc ~ S * P + C + (1 | subj) + (1 | item)", list(
  list(specs = "S", by = "P", contrasts = "pairwise", adjust = "none"),
  list(specs = "C", weights = "proportional")), REML = FALSE)
design("offsets", "Orthodont", "distance ~ Sex + offset(age / 2) + (1 | Subject)", list(
  list(specs = "Sex", contrasts = "pairwise", adjust = "none")))
design("empty", "Oats_empty", "yield ~ nitrof * Variety + (1 | Block/Variety)", list(
  list(specs = "nitrof", contrasts = "pairwise", adjust = "holm"),
  list(specs = "nitrof", by = "Variety", contrasts = "pairwise", adjust = "holm")))
