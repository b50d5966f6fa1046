# Changed models, backward elimination and comparisons by R: references for ../test_models.py.
#
# Run in this folder: Rscript generate.R. Writes cases.json; the data are those of
# ../reference/data. AICc is computed here from logLik (Burnham & Anderson 2002, eq. 2.11).
#
# Made with R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, metafor 3.8.1.

suppressMessages({
  library(lme4); library(lmerTest); library(jsonlite)
})
FOLDER <- "../reference/data"
CONTROL <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11, maxfun = 1e5),
                       check.conv.singular = "ignore", calc.derivs = FALSE)

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

table_of <- function(x) {
  x <- as.data.frame(x)
  c(list(rows = trimws(rownames(x))), as.list(x))
}

one_line <- function(f) paste(deparse(f, width.cutoff = 500), collapse = " ")

updates <- function(fit, changes) lapply(changes, function(change) {
  new <- suppressMessages(update(fit, as.formula(change)))
  list(change = change, formula = one_line(formula(new)), n = nobs(new),
       criterion = -2 * as.numeric(logLik(new)), npar = attr(logLik(new), "df"))
})

criteria <- function(fits) {
  rows <- lapply(fits, function(fit) {
    l <- logLik(fit); k <- attr(l, "df"); n <- nobs(fit)
    c(npar = k, logLik = as.numeric(l), AIC = AIC(fit), BIC = BIC(fit),
      AICc = AIC(fit) + 2 * k * (k + 1) / (n - k - 1))
  })
  as.data.frame(do.call(rbind, rows))
}

record <- function(name, dataset, formula, changes = NULL, REML = TRUE, weights = NULL,
                   every = 1, ddf = "Satterthwaite", keep = character(), alpha = c(0.1, 0.05),
                   scope = NULL, select = TRUE, regression = NULL) {
  d <- droplevels(read_data(dataset)[seq(1, nrow(read_data(dataset)), every), , drop = FALSE])
  assign("d", d, envir = globalenv())
  call <- list(as.formula(formula, env = globalenv()), data = as.name("d"), REML = REML,
               control = as.name("CONTROL"))
  if (!is.null(weights)) call$weights <- as.name(weights)
  fit <- suppressMessages(do.call(lmerTest::lmer, call))
  out <- list(name = name, dataset = dataset, formula = formula, REML = REML, every = every,
              weights = weights, ddf = ddf, keep = keep, alpha = alpha,
              criterion = -2 * as.numeric(logLik(fit)))
  if (!is.null(changes)) out$updates <- updates(fit, changes)
  if (select) {
    found <- suppressMessages(step(fit, ddf = ddf, alpha.random = alpha[1],
                                   alpha.fixed = alpha[2], keep = keep))
    out$random <- table_of(found$random)
    out$fixed <- table_of(found$fixed)
    out$found <- one_line(formula(get_model(found)))
    out$ranova <- table_of(ranova(fit))
    out$ranova_terms <- table_of(ranova(fit, reduce.terms = FALSE))
  }
  if (!is.null(scope)) {
    out$scope <- scope
    plain <- as(fit, "lmerMod")
    out$scope_chisq <- table_of(drop1(plain, scope = scope, test = "Chisq"))
  }
  if (!is.null(regression)) {
    least <- do.call(lm, list(as.formula(regression), data = as.name("d"),
                              weights = if (is.null(weights)) NULL else as.name(weights)))
    out$regression <- regression
    out$against_regression <- table_of(suppressMessages(anova(fit, least)))
    out$criteria <- criteria(list(update(fit, REML = FALSE), least))
  }
  message(name)
  out
}

cases <- list(
  record("covariate", "sleepstudy", "Reaction ~ Days + (Days | Subject)",
         c(". ~ . - Days", "log(.) ~ .", ". ~ . + I(Days^2)",
           ". ~ . - (Days | Subject) + (1 | Subject)", "~ . - 1"),
         scope = "Days", regression = "Reaction ~ Days"),
  record("missing", "sleepstudy_na", "Reaction ~ Days + (Days | Subject)",
         c(". ~ . - Days - (Days | Subject) + (1 | Subject)", "sqrt(.) ~ ."), select = FALSE),
  record("interaction", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)",
         c(". ~ . - recipe:temperature", ". ~ . - recipe * temperature",
           ". ~ . - recipe %in% temperature + (1 | replicate)"),
         scope = c("recipe", "recipe:temperature"),
         regression = "angle ~ recipe * temperature"),
  record("dependent", "cake", "angle ~ recipe + temp + temperature + (1 | recipe:replicate)",
         c(". ~ . - temperature", ". ~ . - temp"), select = FALSE),
  record("transformed", "RatPupWeight",
         "log(weight) ~ sex * Treatment + scale(Lsize) + (1 | Litter)",
         c("exp(.) ~ .", ". ~ . - scale(Lsize) + log(Lsize)", ". ~ (. - sex:Treatment)"),
         scope = c("scale(Lsize)", "sex:Treatment"),
         regression = "log(weight) ~ sex + Treatment"),
  record("nested", "Pastes", "strength ~ 1 + (1 | batch) + (1 | sample)",
         c(". ~ . - (1 | sample)", ". ~ . + cask")),
  record("slopes", "Machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)",
         c(". ~ . - (1 | Worker:Machine)", ". ~ . - Machine")),
  record("weighted", "nlschools", "lang ~ IQ * SES + COMB + (1 | class)", weights = "GS",
         c(". ~ . - IQ:SES", ". ~ . - (1 | class) + (IQ | class)"),
         scope = c("COMB", "IQ:SES"), regression = "lang ~ IQ * SES + COMB"),
  record("singular", "TVbo", "Coloursaturation ~ TVset * Picture + (1 | Assessor) + (1 | Repeat)",
         c(". ~ . - (1 | Repeat)", ". ~ . + (1 | Assessor:TVset)")),
  record("many", "ham",
         "Informed.liking ~ Product * Information * Gender + Age + (1 | Consumer)",
         c(". ~ (Product + Information)^2 + (1 | Consumer)", ". ~ . - Age"), keep = "Age"),
  record("split", "Oats_empty", "yield ~ nitrof + Variety + (1 | Block) + (1 | Block:Variety)",
         c(". ~ . - Variety", ". ~ . + nitrof:Variety"), ddf = "Kenward-Roger"),
  record("growth", "Orthodont", "distance ~ age * Sex + (age | Subject)", REML = FALSE,
         c(". ~ . - age:Sex", ". ~ . - (age | Subject) + (1 | Subject)"),
         alpha = c(0.2, 0.001), regression = "distance ~ age * Sex"),
  record("crossed", "Arabidopsis", "lfruits ~ nutrient * amd + rack + status + (1 | popu) + (1 | gen)",
         every = 2, c(". ~ . - status", "exp(.) ~ . - rack")),
  record("uncorrelated", "carrots", "Preference ~ sens2 + Homesize + (1 | Consumer) + (0 + sens2 | Consumer)",
         c(". ~ . - (0 + sens2 | Consumer)", ". ~ . - sens2")))
# Meta-analysis: variances of the rows are known, that between the regions is not.
known <- function(method) {
  fit <- metafor::rma(eff, 1 / wi, mods = ~ x, data = read_data("meta"), method = method,
                      control = list(threshold = 1e-12, maxiter = 1000))
  list(tau = sqrt(fit$tau2), beta = as.numeric(fit$beta), se = fit$se,
       llf = if (method == "ML") as.numeric(logLik(fit)) else NULL)
}
cases$known <- list(name = "known", dataset = "meta", REML = known("REML"), ML = known("ML"))
names(cases) <- vapply(cases, `[[`, "", "name")
write_json(cases, "cases.json", digits = 12, auto_unbox = TRUE, na = "null", null = "null")
